"""apex precisions against a stand-in that really keeps an fp16 model and fp32 masters."""

import math
import sys
from pathlib import Path

import pytest
import torch

from device_under_test import device_under_test
from open_clip.errors import MissingDependency
from training.device import make_mixed_precision, resolve_precision

DEVICE, TORCH_DEVICE = device_under_test()
STAND_IN = Path(__file__).parents[3] / "support" / "apex_stand_in"


@pytest.fixture
def apex(monkeypatch):
    monkeypatch.syspath_prepend(STAND_IN)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "apex"]:
        del sys.modules[name]


def make_run(precision="apex_o2", loss_scale=None):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4)).to(TORCH_DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    mixed = make_mixed_precision(resolve_precision(precision, DEVICE), DEVICE, TORCH_DEVICE, loss_scale)
    return mixed, *mixed.prepare(model, optimizer)


def run_step(mixed, model, optimizer, seed=0, factor=1.0, max_norm=None):
    generator = torch.Generator().manual_seed(seed)
    optimizer.zero_grad()
    with mixed.autocast():
        loss = model(torch.randn(4, 8, generator=generator).to(TORCH_DEVICE)).square().mean() * factor
    mixed.backward(loss)
    mixed.unscale(optimizer)
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(mixed.parameters_to_clip(model, optimizer), max_norm)
    mixed.step(optimizer)
    return float(loss.detach())


def test_without_apex_the_error_says_what_to_do():
    with pytest.raises(MissingDependency, match="--precision amp does the same.*") as caught:
        make_run()
    assert "build apex from source" in str(caught.value)


@pytest.mark.usefixtures("apex")
def test_o2_trains_an_fp16_model_on_fp32_masters():
    mixed, model, optimizer = make_run()
    losses = [run_step(mixed, model, optimizer) for _ in range(5)]
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    assert {p.dtype for p in mixed.parameters_to_clip(model, optimizer)} == {torch.float32}
    assert losses[-1] < losses[0]


@pytest.mark.usefixtures("apex")
def test_o2_has_a_fixed_scale_of_512_unless_told_otherwise():
    assert make_run()[0].scale() == 512.0
    assert make_run(loss_scale="64")[0].scale() == 64.0
    assert make_run(loss_scale="dynamic")[0].scale() == 2.0**16


@pytest.mark.usefixtures("apex")
def test_o1_keeps_fp32_weights_and_scales_dynamically():
    mixed, model, optimizer = make_run("apex_o1")
    assert mixed.scale() == 2.0**16
    losses = [run_step(mixed, model, optimizer) for _ in range(5)]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert losses[-1] < losses[0]


@pytest.mark.usefixtures("apex")
def test_clipping_acts_on_the_gradients_the_optimizer_uses():
    mixed, model, optimizer = make_run()
    run_step(mixed, model, optimizer, max_norm=1e-3)
    norm = torch.stack([p.grad.norm() for group in optimizer.param_groups for p in group["params"]]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.usefixtures("apex")
def test_an_overflow_skips_the_step_and_halves_the_scale():
    mixed, model, optimizer = make_run(loss_scale="dynamic")
    before = [p.detach().cpu().clone() for p in model.parameters()]
    run_step(mixed, model, optimizer, factor=math.inf)
    assert mixed.scale() == 2.0**15
    assert all(torch.equal(a, b.detach().cpu()) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.usefixtures("apex")
def test_a_resumed_run_goes_on_with_the_same_bits(tmp_path):
    mixed, model, optimizer = make_run(loss_scale="dynamic")
    for seed in range(3):
        run_step(mixed, model, optimizer, seed)
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "mixed": mixed.state_dict()}
    torch.save(saved, tmp_path / "run.pt")
    expected = [run_step(mixed, model, optimizer, seed) for seed in range(3, 6)]

    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    mixed, model, optimizer = make_run(loss_scale="dynamic")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    mixed.load_state_dict(saved["mixed"])
    assert [run_step(mixed, model, optimizer, seed) for seed in range(3, 6)] == expected


@pytest.mark.usefixtures("apex")
def test_weights_loaded_from_another_precision_reach_the_masters():
    mixed, model, optimizer = make_run()
    model.load_state_dict({name: torch.full_like(value, 0.25) for name, value in model.state_dict().items()})
    mixed.load_state_dict({})
    masters = mixed.parameters_to_clip(model, optimizer)
    assert all(bool((master == 0.25).all()) for master in masters)


@pytest.mark.usefixtures("apex")
@pytest.mark.parametrize("factor", [1.0, math.inf])
def test_a_step_that_is_to_be_skipped_does_not_cost_the_next_one(factor):
    mixed, model, optimizer = make_run(loss_scale="dynamic")
    before = [p.detach().cpu().clone() for p in model.parameters()]
    with mixed.autocast():
        loss = model(torch.ones(4, 8, device=TORCH_DEVICE)).square().mean() * factor
    mixed.backward(loss)
    assert not mixed.gradient_fault(model, optimizer)
    mixed.step(optimizer, True)
    assert all(torch.equal(a, b.detach().cpu()) for a, b in zip(before, model.parameters(), strict=True))
    run_step(mixed, model, optimizer)
    assert not all(torch.equal(a, b.detach().cpu()) for a, b in zip(before, model.parameters(), strict=True))
