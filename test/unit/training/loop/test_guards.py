"""A step whose numbers are wrong changes nothing; a run of them sends the run back, and the bad batches stay out."""

import math

import pytest
import torch

from loop_runs import SCALED, SkippingCpu, SmallRun, make_batches
from open_clip.errors import DataError, NumericsError
from runs import assert_same_state
from training.device.cpu import CpuDevice
from training.loop import Progress


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def spoil(batch, value=math.inf):
    images = batch.images.clone()
    images[0, 0, 0, 0] = value
    return batch._replace(images=images)


def without_random(state):
    return {name: value for name, value in state.items() if name in ("model", "optimizer")}


WAYS = {
    "the host decides": {"device": CpuDevice()},
    "the device decides": {"device": SkippingCpu()},
    "a plain optimizer": {"device": CpuDevice(), "fused": False},
    "clipping": {"device": SkippingCpu(), "clip": 1.0},
    "a loss scale": {"device": SkippingCpu(), "precision": SCALED, "loss_scale": "dynamic", "clip": 1.0},
    "a fixed loss scale": {"device": SkippingCpu(), "precision": SCALED, "loss_scale": 64.0},
    "a loss scale on the host": {"device": CpuDevice(), "precision": SCALED, "loss_scale": "dynamic"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_leaves_weights_and_optimizer_as_they_were(way, value):
    first, second = make_batches(2)
    run = SmallRun([first], **WAYS[way])
    run.stepper.step([first], 1e-3)
    assert not run.guard.read().skipped
    before = without_random(run.state())
    run.stepper.step([spoil(second, value)], 1e-3)
    verdict = run.guard.read()
    assert verdict.skipped
    assert verdict.bad_losses == 1
    assert_same_state(without_random(run.state()), before)
    run.stepper.step([second], 1e-3)
    assert not run.guard.read().skipped
    after = without_random(run.state())
    assert not torch.equal(after["model"]["visual.proj"], before["model"]["visual.proj"])
    assert all(torch.isfinite(weight).all() for weight in after["model"].values())


@pytest.mark.parametrize("device", [CpuDevice(), SkippingCpu()])
def test_a_gradient_alone_that_is_not_finite_skips_too(device):
    (batch,) = make_batches(1)
    run = SmallRun([batch], device=device)
    run.task.model.visual.proj.register_hook(lambda gradient: gradient * math.nan)
    before = run.state()["model"]
    run.stepper.step([batch], 1e-3)
    verdict = run.guard.read()
    assert (verdict.bad_losses, verdict.bad_gradients, verdict.skipped) == (0, 1, True)
    assert_same_state(run.state()["model"], before)


def test_the_search_for_a_loss_scale_is_no_fault():
    (batch,) = make_batches(1)
    run = SmallRun([batch], device=SkippingCpu(), precision=SCALED, loss_scale="dynamic")
    run.task.model.visual.proj.register_hook(lambda gradient: gradient * math.inf)
    scale = run.mixed.scale()
    run.stepper.step([batch], 1e-3)
    assert not run.guard.read().skipped
    assert run.mixed.scale() == scale / 2
    for _ in range(17):
        run.stepper.step([batch], 1e-3)
    # 2**16 halved 17 times is below 1: no scale is to blame any more.
    assert [run.guard.read().skipped for _ in range(17)] == [False] * 16 + [True]


def test_a_skipped_step_does_not_lower_the_loss_scale_by_itself():
    batches = make_batches(2)
    run = SmallRun(batches, device=SkippingCpu(), precision=SCALED, loss_scale="dynamic", on_loss_spike="skip")
    run.stepper.step([batches[0]], 1e-3)
    run.guard.window.restore([1e-3] * 128)
    scale, before = run.mixed.scale(), without_random(run.state())
    run.stepper.step([batches[1]], 1e-3)
    assert [run.guard.read().spike for _ in range(2)] == [False, True]
    assert run.mixed.scale() == scale
    assert_same_state(without_random(run.state()), before)


@pytest.mark.parametrize("num_sound", [0, 1])
def test_running_statistics_do_not_move_in_a_skipped_step(num_sound):
    class WithNorm(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model, self.norm = model, torch.nn.BatchNorm2d(3)
            self.logit_scale = model.logit_scale

        def forward(self, images, texts):
            return self.model(self.norm(images), texts)

    from loop_runs import make_task

    for device in (CpuDevice(), SkippingCpu()):
        first, second = make_batches(2)
        task = make_task()
        task.model = WithNorm(task.model)
        run = SmallRun([first], task=task, device=device)
        run.stepper.step([first], 1e-3)
        before = run.state()["model"]
        run.stepper.step([*[first] * num_sound, spoil(second)], 1e-3)
        assert_same_state(run.state()["model"], before)
        assert before["norm.num_batches_tracked"] == 1


def test_one_bad_batch_among_accumulated_ones_skips_the_step():
    batches = make_batches(4)
    batches[1] = spoil(batches[1])
    run = SmallRun(batches, accum_freq=2).train()
    (event,) = run.events.heard
    assert event[:2] == ("skipped_step", 1)
    assert event[2]["batch"] == 0
    assert event[2]["num_samples"] == 8
    assert run.progress.skipped == [[0, 0]]
    assert math.isnan(run.events.losses[1])


def test_stop_ends_the_run_at_once_and_saves_nothing():
    batches = make_batches(6)
    batches[3] = spoil(batches[3])
    run = SmallRun(batches, on_nonfinite="stop")
    with pytest.raises(NumericsError, match="not finite at step 4"):
        run.train()
    assert run.saved == []


def test_skips_in_a_row_go_back_and_leave_the_bad_batches_out():
    batches = make_batches(10)
    bad = (4, 5, 6)
    for index in bad:
        batches[index] = spoil(batches[index])
    run = SmallRun(batches, save_every=2, max_skipped_steps=3).train()
    names = [name for name, _, _ in run.events.heard]
    assert names == ["skipped_step"] * 3 + ["rollback"]
    assert run.events.heard[-1][1] == 4
    assert run.progress.left_out == [[0, index] for index in bad]
    assert (run.progress.rollbacks, run.progress.step, run.progress.epoch) == (1, 10, 1)
    clean = SmallRun([batch for index, batch in enumerate(batches) if index not in bad]).train()
    assert_same_state(run.state()["model"], clean.state()["model"])


def test_a_run_resumed_from_any_save_ends_as_the_one_that_went_on():
    def make_run():
        batches = make_batches(12)
        for index in (4, 5, 8, 9):
            batches[index] = spoil(batches[index])
        return SmallRun(batches, epochs=2, save_every=3, max_skipped_steps=2, max_rollbacks=5)

    whole = make_run().train()
    assert whole.progress.rollbacks == 4
    for saved in whole.saved[:-1]:
        resumed = make_run()
        resumed.progress.become(resumed.restore(saved))
        # The checkpoint is on the disk of the resumed run too.
        resumed.saved.append(saved)
        resumed.train()
        assert_same_state(resumed.state(), whole.state())


def test_no_state_is_saved_in_the_middle_of_a_streak():
    batches = make_batches(6)
    batches[2] = spoil(batches[2])
    run = SmallRun(batches, save_every=3).train()
    assert [state["progress"]["step"] for state in run.saved] == [6]
    batches[2] = make_batches(3)[2]
    assert [state["progress"]["step"] for state in SmallRun(batches, save_every=3).train().saved] == [3, 6]


def test_a_run_gives_up_after_too_many_rollbacks():
    batches = make_batches(9)
    batches[2:] = [spoil(batch) for batch in batches[2:]]
    run = SmallRun(batches, save_every=2, max_skipped_steps=2, max_rollbacks=2)
    with pytest.raises(NumericsError, match="went back 2 times already"):
        run.train()
    assert run.progress.left_out == [[0, index] for index in range(2, 6)]


def test_without_a_checkpoint_there_is_nothing_to_go_back_to():
    run = SmallRun([spoil(batch) for batch in make_batches(12)])
    with pytest.raises(NumericsError, match="8 steps in a row were skipped up to step 8, and there is no checkpoint"):
        run.train()


def test_a_short_run_of_which_most_was_skipped_does_not_end_well():
    batches = make_batches(5)
    batches[2:] = [spoil(batch) for batch in batches[2:]]
    with pytest.raises(NumericsError, match="the last 3 of the epoch's 5 steps were skipped"):
        SmallRun(batches).train()


def test_rows_of_all_processes_are_held_against_the_budget_together():
    def check(count):
        if count > 3:
            raise DataError(f"{count} rows are bad")

    met = iter(range(1, 9))
    run = SmallRun(make_batches(8), bad_rows=lambda: next(met), check_bad_rows=check)
    with pytest.raises(DataError, match="4 rows are bad"):
        run.train()
    assert run.progress.step == 5


def test_a_progress_without_the_guards_entries_is_read():
    old = {"epoch": 1, "batch": 2, "step": 7, "samples_seen": 56, "losses": {}}
    assert Progress.from_state_dict(old).left_out == []
