import math

import pytest
import torch

from device_under_test import device_under_test
from open_clip.errors import ConfigError
from training.device import Precision, make_mixed_precision, resolve_precision
from training.device.mixed import ScaledPrecision

DEVICE, TORCH_DEVICE = device_under_test()
SCALED = Precision("amp", "amp", autocast_dtype=torch.float16, scaled=True)


def make_step(loss_scale=None, precision=SCALED):
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 4).to(TORCH_DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mixed = make_mixed_precision(precision, DEVICE, TORCH_DEVICE, loss_scale)
    return mixed, *mixed.prepare(model, optimizer)


def run_step(mixed, model, optimizer, inputs=None, factor=1.0):
    optimizer.zero_grad()
    with mixed.autocast():
        loss = model(torch.ones(2, 8, device=TORCH_DEVICE) if inputs is None else inputs).square().mean()
    mixed.backward(loss * factor)
    mixed.unscale(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(mixed.parameters_to_clip(model, optimizer), 10.0)
    mixed.step(optimizer)
    return float(norm)


def weights_of(model):
    return [parameter.detach().cpu().clone() for parameter in model.parameters()]


def test_fp32_is_plain_training():
    mixed, model, optimizer = make_step(precision=resolve_precision("fp32", DEVICE))
    before = weights_of(model)
    run_step(mixed, model, optimizer)
    assert mixed.scale() is None
    assert mixed.state_dict() == {}
    assert not torch.equal(before[0], weights_of(model)[0])


def test_a_scaled_step_equals_the_plain_one_but_for_fp16_rounding():
    plain = make_step(precision=resolve_precision("fp32", DEVICE))
    scaled = make_step(loss_scale=1024)
    # fp16 has 11 bits: one product of a row of 8 is right to about 1e-3.
    assert run_step(*plain) == pytest.approx(run_step(*scaled), rel=5e-3)
    for a, b in zip(weights_of(plain[1]), weights_of(scaled[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


def test_unscaling_twice_in_a_step_unscales_once():
    mixed, model, optimizer = make_step(loss_scale=64)
    mixed.backward(model(torch.ones(1, 8, device=TORCH_DEVICE)).sum())
    mixed.unscale(optimizer)
    once = model.weight.grad.cpu().clone()
    mixed.unscale(optimizer)
    assert torch.equal(once, model.weight.grad.cpu())
    torch.testing.assert_close(once, torch.ones(4, 8))


def test_an_overflow_skips_the_step_and_halves_a_dynamic_scale():
    mixed, model, optimizer = make_step("dynamic")
    before, scale = weights_of(model), mixed.scale()
    run_step(mixed, model, optimizer, factor=math.inf)
    assert torch.equal(before[0], weights_of(model)[0])
    assert mixed.scale() == scale / 2


def test_a_fixed_scale_stays():
    mixed, model, optimizer = make_step("512")
    for _ in range(3):
        run_step(mixed, model, optimizer)
    assert mixed.scale() == 512


def test_the_scale_survives_a_checkpoint(tmp_path):
    mixed, model, optimizer = make_step("dynamic")
    run_step(mixed, model, optimizer, factor=math.inf)
    run_step(mixed, model, optimizer)
    torch.save(mixed.state_dict(), tmp_path / "state.pt")
    fresh, *_ = make_step("dynamic")
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert fresh.state_dict() == mixed.state_dict()


def test_a_state_with_another_devices_extra_key_loads():
    mixed, *_ = make_step("dynamic")
    foreign = {
        "scale": 128.0,
        "growth_factor": 2.0,
        "backoff_factor": 0.5,
        "growth_interval": 2000,
        "_growth_tracker": 7,
    }
    mixed.load_state_dict({**foreign, "dynamic": True})
    assert mixed.scale() == 128.0
    assert mixed.state_dict()["_growth_tracker"] == 7


def test_a_dynamic_run_that_resumes_a_fixed_one_still_grows():
    fixed, *_ = make_step("128")
    mixed, *_ = make_step("dynamic")
    mixed.load_state_dict(fixed.state_dict())
    assert mixed.scale() == 128.0
    assert mixed.state_dict()["growth_factor"] == 2.0


def test_a_fixed_scale_wins_over_the_checkpoint():
    mixed, *_ = make_step("256")
    mixed.load_state_dict(make_step("dynamic")[0].state_dict())
    assert mixed.scale() == 256.0


def test_a_checkpoint_without_a_scale_starts_afresh():
    mixed, *_ = make_step("dynamic")
    before = mixed.scale()
    mixed.load_state_dict({})
    assert mixed.scale() == before
    assert isinstance(mixed, ScaledPrecision)


@pytest.mark.parametrize("loss_scale", ["0", "-1", "nan", "inf", "many"])
def test_a_loss_scale_that_is_no_positive_number_is_refused(loss_scale):
    with pytest.raises(ConfigError, match="positive number such as 512"):
        make_mixed_precision(SCALED, DEVICE, TORCH_DEVICE, loss_scale)


@pytest.mark.parametrize("loss_scale", [None, 64])
@pytest.mark.parametrize("precision", [SCALED, resolve_precision("fp32", DEVICE)])
def test_a_step_that_is_to_be_skipped_changes_nothing_and_the_next_one_does(precision, loss_scale):
    mixed, model, optimizer = make_step(loss_scale if precision.scaled else None, precision)
    before, scale = weights_of(model), mixed.scale()
    mixed.backward(model(torch.ones(2, 8, device=TORCH_DEVICE)).square().mean())
    assert not mixed.gradient_fault(model, optimizer)
    mixed.step(optimizer, True)
    assert torch.equal(before[0], weights_of(model)[0])
    assert mixed.scale() == scale
    for _ in range(3):
        # The first may overflow: 2**16 itself is no fp16 number.
        run_step(mixed, model, optimizer)
    assert not torch.equal(before[0], weights_of(model)[0])


def test_a_gradient_that_is_not_finite_is_a_fault_unless_a_scale_is_searched():
    for loss_scale, precision, expected in ((None, SCALED, False), (64, SCALED, True), (None, None, True)):
        mixed, model, optimizer = make_step(loss_scale, precision or resolve_precision("fp32", DEVICE))
        mixed.backward(model(torch.full((2, 8), math.inf, device=TORCH_DEVICE)).sum())
        assert bool(mixed.gradient_fault(model, optimizer)) is expected
