"""apex precisions against a stand-in with apex's habits, and against apex's own sources where they are at hand."""

import math
from pathlib import Path

import pytest
import torch

from apex_sources import KINDS, apex_folder, forget_apex, undo_patches
from device_under_test import device_under_test
from loop_runs import ALONE, make_batches, make_task
from open_clip.errors import MissingDependency
from training.checkpoint import Order, RunState, Trained, collect, restore
from training.device import make_mixed_precision, resolve_precision
from training.loop import Stepper
from training.optim import WeightAverage, build_optimizer, train_only_rows
from training.params import OptimParams

DEVICE, TORCH_DEVICE = device_under_test()
ORDER = Order(seed=0, global_batch=4, num_samples=8)


@pytest.fixture(params=KINDS)
def apex(request, monkeypatch, tmp_path):
    if request.param == "real" and TORCH_DEVICE.type != "cpu":
        pytest.skip("the copy of apex is fitted to the CPU")
    monkeypatch.syspath_prepend(apex_folder(request.param, tmp_path))
    yield
    forget_apex()


class Small(torch.nn.Sequential):
    """Weights that become fp16 under O2, a norm that stays in fp32 and a scale of one number."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 4))
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, rows):
        return super().forward(rows) * self.scale


def make_run(precision="apex_o2", loss_scale=None, model=None):
    undo_patches()
    model = (model or Small()).to(TORCH_DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    mixed = make_mixed_precision(resolve_precision(precision, DEVICE), DEVICE, TORCH_DEVICE, loss_scale)
    return mixed, *mixed.prepare(model, optimizer)


def backward(mixed, model, seed=0, factor=1.0, is_last=True):
    generator = torch.Generator().manual_seed(seed)
    with mixed.autocast():
        loss = model(torch.randn(4, 8, generator=generator).to(TORCH_DEVICE)).float().square().mean() * factor
    mixed.backward(loss, is_last)
    return float(loss.detach())


def run_step(mixed, model, optimizer, seed=0, factor=1.0):
    mixed.clear_gradients(optimizer)
    loss = backward(mixed, model, seed, factor)
    mixed.step(optimizer)
    return loss


def copies(tensors):
    return [tensor.detach().cpu().clone() for tensor in tensors]


def are_equal(first, second):
    return all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(first, second, strict=True))


@pytest.mark.usefixtures("apex")
@pytest.mark.parametrize("precision", ["apex_o1", "apex_o2"])
def test_rows_that_are_not_trained_keep_their_bits_in_model_and_masters(precision):
    undo_patches()
    model = Small().to(TORCH_DEVICE)
    train_only_rows(model, "0.weight", [2, 5])
    params = OptimParams(lr=1e-2, beta1=0.9, beta2=0.98, eps=1e-6, wd=0.2)
    optimizer = build_optimizer(model, params, DEVICE)
    mixed = make_mixed_precision(resolve_precision(precision, DEVICE), DEVICE, TORCH_DEVICE, 128)
    model, optimizer = mixed.prepare(model, optimizer)
    (master,) = [p for p in mixed.parameters_to_clip(model, optimizer) if p.shape == (8, 8)]
    before = copies([model[0].weight, master])
    for seed in range(2):
        mixed.clear_gradients(optimizer)
        backward(mixed, model, seed, is_last=False)
        backward(mixed, model, seed + 9)
        assert not master.grad[[0, 1, 3, 4, 6, 7]].any()
        mixed.step(optimizer)
    for start, now in zip(before, copies([model[0].weight, master]), strict=True):
        assert [row for row in range(8) if not torch.equal(now[row], start[row])] == [2, 5]


def test_without_apex_the_error_says_what_to_do():
    with pytest.raises(MissingDependency, match="--precision amp does the same.*") as caught:
        make_run()
    assert "build apex from source" in str(caught.value)


@pytest.mark.usefixtures("apex")
def test_a_build_of_apex_that_lacks_a_part_is_one_line(monkeypatch):
    from apex import amp

    def initialize(*inputs, **options):
        raise ModuleNotFoundError("No module named 'npu_float_status'")

    monkeypatch.setattr(amp, "initialize", initialize)
    with pytest.raises(MissingDependency, match="--precision npu_amp: .*npu_float_status.*--loss-scale 512"):
        make_run("npu_amp", "dynamic")


@pytest.mark.usefixtures("apex")
def test_the_library_has_the_habits_that_the_trainer_lives_with():
    from apex import amp

    model = Small().to(TORCH_DEVICE)
    optimizer = torch.optim.AdamW(model.parameters())
    model, optimizer = amp.initialize(model, optimizer, opt_level="O2", loss_scale=64.0, verbosity=0)
    assert {p.dtype for p in amp.master_params(optimizer)} == {torch.float16, torch.float32}
    with pytest.raises(RuntimeError, match="only be passed through amp.initialize once"):
        amp.initialize(Small().to(TORCH_DEVICE), optimizer, opt_level="O2", verbosity=0)
    with pytest.raises(RuntimeError, match="Found param"):
        amp.initialize(model, torch.optim.AdamW(model.parameters()), opt_level="O2", verbosity=0)
    with pytest.raises(TypeError, match="set_to_none"):
        optimizer.zero_grad(set_to_none=True)
    optimizer.zero_grad()
    assert {p.dtype for p in amp.master_params(optimizer)} == {torch.float32}
    assert {value.dtype for value in model.state_dict().values() if value.is_floating_point()} == {torch.float32}
    with pytest.raises(RuntimeError, match="closure"):
        optimizer.step(lambda: None)
    weight = model[0].weight
    weight.grad = torch.zeros(weight.numel(), dtype=weight.dtype, device=TORCH_DEVICE).view_as(weight)
    with pytest.raises(RuntimeError, match="detach"):
        optimizer.zero_grad()


@pytest.mark.usefixtures("apex")
def test_o2_trains_an_fp16_model_on_fp32_masters():
    mixed, model, optimizer = make_run()
    losses = [run_step(mixed, model, optimizer) for _ in range(5)]
    assert {p.dtype for p in model[0].parameters()} == {torch.float16}
    assert {p.dtype for p in model[1].parameters()} == {torch.float32}
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
    with mixed.autocast():
        assert model[0](torch.ones(4, 8, device=TORCH_DEVICE)).dtype == torch.float16
    assert losses[-1] < losses[0]


@pytest.mark.usefixtures("apex")
def test_the_masters_are_there_before_the_first_step():
    mixed, model, _ = make_run()
    masters = mixed.state_dict()["masters"]
    halves = [p.detach().float() for p in model.parameters() if p.dtype == torch.float16]
    assert len(halves) == 5
    assert are_equal(masters, halves)


@pytest.mark.usefixtures("apex")
@pytest.mark.parametrize("precision", ["apex_o1", "apex_o2"])
def test_gradients_that_are_views_of_a_bucket_are_cleared(precision):
    mixed, model, optimizer = make_run(precision)
    backward(mixed, model)
    for weight in model.parameters():
        weight.grad = weight.grad.flatten().view_as(weight)
    mixed.clear_gradients(optimizer)
    assert all(p.grad is None for p in (*model.parameters(), *mixed.parameters_to_clip(model, optimizer)))


@pytest.mark.usefixtures("apex")
@pytest.mark.parametrize("scale", [128, 1])
@pytest.mark.parametrize("precision", ["apex_o1", "apex_o2"])
def test_backward_passes_of_a_step_add_up_where_ddp_sees_their_sum(precision, scale):
    mixed, model, optimizer = make_run(precision, scale)
    apart = []
    for seed in range(3):
        mixed.clear_gradients(optimizer)
        backward(mixed, model, seed)
        apart.append(copies(p.grad for p in mixed.parameters_to_clip(model, optimizer)))
    mixed.clear_gradients(optimizer)
    for seed in range(3):
        backward(mixed, model, seed, is_last=seed == 2)
    in_scale = [p.grad.cpu().float() / mixed.scale() for p in model.parameters() if p.dtype == torch.float16]
    together = copies(p.grad for p in mixed.parameters_to_clip(model, optimizer))
    halves = [g for g, p in zip(together, model.parameters(), strict=True) if p.dtype == torch.float16]
    for whole, *parts in zip(together, *apart, strict=True):
        torch.testing.assert_close(whole, sum(parts), rtol=2e-3, atol=2e-4)
    for whole, exchanged in zip(halves, in_scale, strict=True):
        assert torch.equal(whole, exchanged)


@pytest.mark.usefixtures("apex")
def test_clipping_acts_on_the_gradients_the_optimizer_uses():
    mixed, model, optimizer = make_run()
    backward(mixed, model)
    torch.nn.utils.clip_grad_norm_(mixed.parameters_to_clip(model, optimizer), 1e-3)
    norm = torch.stack([p.grad.norm() for group in optimizer.param_groups for p in group["params"]]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.usefixtures("apex")
def test_an_overflow_skips_the_step_and_halves_the_scale():
    mixed, model, optimizer = make_run(loss_scale="dynamic")
    before = copies(model.parameters())
    run_step(mixed, model, optimizer, factor=math.inf)
    assert mixed.scale() == 2.0**15
    assert are_equal(before, copies(model.parameters()))


@pytest.mark.usefixtures("apex")
def test_an_overflow_is_a_fault_once_the_scale_cannot_be_to_blame():
    mixed, model, optimizer = make_run(loss_scale="dynamic")
    for scale, is_fault in ((4.0, False), (1.0, True)):
        mixed.load_state_dict({"apex": {"loss_scaler0": {"loss_scale": scale, "unskipped": 0}}})
        mixed.clear_gradients(optimizer)
        backward(mixed, model, factor=math.nan)
        assert bool(mixed.gradient_fault(model, optimizer)) is is_fault
        mixed.step(optimizer, is_fault)


@pytest.mark.usefixtures("apex")
@pytest.mark.parametrize("factor", [1.0, math.inf])
def test_a_step_that_is_to_be_skipped_does_not_cost_the_next_one(factor):
    mixed, model, optimizer = make_run(loss_scale="dynamic")
    before = copies(model.parameters())
    backward(mixed, model, factor=factor)
    assert not mixed.gradient_fault(model, optimizer)
    mixed.step(optimizer, True)
    assert are_equal(before, copies(model.parameters()))
    run_step(mixed, model, optimizer)
    assert not are_equal(before, copies(model.parameters()))


@pytest.mark.usefixtures("apex")
def test_the_bounds_of_a_weight_hold_for_its_master():
    mixed, model, optimizer = make_run()
    run_step(mixed, model, optimizer)
    before = copies(mixed.state_dict()["masters"])
    mixed.keep_bounds()
    assert are_equal(before, mixed.state_dict()["masters"])
    with torch.no_grad():
        model.scale.clamp_(0.0, 0.5)
    mixed.keep_bounds()
    after = mixed.state_dict()["masters"]
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if not torch.equal(a, b)]
    assert [float(after[i]) for i in changed] == [0.5]


@pytest.mark.usefixtures("apex")
def test_o1_computes_with_weights_that_changed_between_two_forward_passes():
    mixed, model, optimizer = make_run("apex_o1")
    rows = torch.ones(4, 8, device=TORCH_DEVICE)
    with torch.no_grad():
        for amount in (1.0, 0.25):
            for weight in model[0].parameters():
                weight.fill_(amount)
            with mixed.autocast():
                assert torch.equal(model[0](rows).float(), torch.full((4, 8), 9 * amount, device=TORCH_DEVICE))


@pytest.mark.usefixtures("apex")
def test_the_averaged_weights_follow_an_fp16_model():
    mixed, model, optimizer = make_run()
    average = WeightAverage(model, 0.5)
    before = copies(average.state_dict().values())
    with torch.no_grad():
        for weight in model[0].parameters():
            weight += 1.0
    average.update()
    assert not are_equal(before[:2], copies(average.state_dict().values())[:2])
    mine = copies(model.parameters())
    with average.in_place():
        torch.testing.assert_close(model[0].weight.float(), average.state_dict()["0.weight"], rtol=1e-3, atol=1e-3)
    assert are_equal(mine, copies(model.parameters()))


class Clip:
    """A micro model under O2 that moves without data, and its checkpoints."""

    def __init__(self, precision="apex_o2"):
        self.mixed, self.model, self.optimizer = make_run(precision, model=make_task().model)
        self.optimizer.param_groups[0]["weight_decay"] = 0.0
        self.trained = Trained(self.model, self.optimizer, self.mixed, DEVICE, ALONE)

    def step(self, lr):
        self.optimizer.param_groups[0]["lr"] = lr
        self.mixed.clear_gradients(self.optimizer)
        self.mixed.backward(sum(p.float().square().sum() for p in self.model.parameters()))
        self.mixed.step(self.optimizer)

    def save(self, folder):
        progress = {"epoch": 1, "step": 1, "samples_seen": 4}
        torch.save(collect(RunState(self.trained, progress, ORDER, "run")), folder / "run.pt")
        return torch.load(folder / "run.pt", weights_only=True)

    def load(self, payload):
        restore(payload, Path("run.pt"), self.trained, ORDER)


@pytest.mark.usefixtures("apex")
def test_going_back_to_a_checkpoint_forgets_what_was_learnt_since(tmp_path):
    run = Clip()
    run.step(1e-2)
    saved, weights, masters = run.save(tmp_path), copies(run.model.parameters()), run.mixed.state_dict()["masters"]
    masters = copies(masters)
    assert not all(torch.equal(master, master.half().float()) for master in masters)
    run.step(1e-2)
    run.load(saved)
    assert are_equal(masters, run.mixed.state_dict()["masters"])
    run.step(0.0)
    assert are_equal(weights, copies(run.model.parameters()))
    assert are_equal(masters, run.mixed.state_dict()["masters"])


@pytest.mark.usefixtures("apex")
@pytest.mark.parametrize("kind", ["a run in fp32", "weights alone"])
def test_weights_of_another_precision_reach_the_masters(kind, tmp_path):
    other = Clip("fp32")
    other.step(1e-1)
    payload = other.save(tmp_path)
    run = Clip()
    run.load(payload if kind == "a run in fp32" else payload["state_dict"])
    run.step(0.0)
    for ours, theirs in zip(run.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(ours, theirs.to(ours.dtype))


@pytest.mark.usefixtures("apex")
def test_a_scale_that_is_asked_for_is_kept_on_resuming():
    saved = make_run(loss_scale="512")[0].state_dict()
    for asked, kept in (("64", 64.0), ("dynamic", 512.0)):
        mixed = make_run(loss_scale=asked)[0]
        mixed.load_state_dict(saved)
        assert mixed.scale() == kept


@pytest.mark.usefixtures("apex")
@pytest.mark.parametrize("precision", ["apex_o1", "apex_o2"])
def test_a_resumed_run_goes_on_with_the_same_bits(precision, tmp_path):
    mixed, model, optimizer = make_run(precision, loss_scale="dynamic")
    for seed in range(3):
        run_step(mixed, model, optimizer, seed)
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "mixed": mixed.state_dict()}
    torch.save(saved, tmp_path / "run.pt")
    expected = [run_step(mixed, model, optimizer, seed) for seed in range(3, 6)]

    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    mixed, model, optimizer = make_run(precision, loss_scale="dynamic")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    mixed.load_state_dict(saved["mixed"])
    assert [run_step(mixed, model, optimizer, seed) for seed in range(3, 6)] == expected


@pytest.mark.usefixtures("apex")
@pytest.mark.parametrize("precision", ["apex_o1", "apex_o2"])
def test_the_loop_takes_steps_of_one_batch_and_of_several(precision):
    task = make_task()
    mixed, task.model, optimizer = make_run(precision, 128, model=task.model)
    stepper = Stepper(task, optimizer, mixed, DEVICE, grad_clip_norm=1.0)
    batches = [
        batch._replace(images=batch.images.to(TORCH_DEVICE), texts=batch.texts.to(TORCH_DEVICE))
        for batch in make_batches(2)
    ]
    for count in (1, 2):
        losses = [float(stepper.step(batches[:count], 1e-3).total) for _ in range(2)]
        assert losses[1] < losses[0]
