"""Memory that runs out is told with the phase, the settings and the ways out; everything else stays what it was."""

import pytest
import torch

from loop_runs import SaveEvery, SmallRun, make_batches
from open_clip.errors import DataError, DeviceError
from training.device.cpu import CpuDevice
from training.failures import explain_failures
from training.loop import Hook, Hooks, phase_of
from training.params import RunParams, parse_args

PARAMS = RunParams.from_namespace(parse_args(["--batch-size", "48", "--precision", "amp", "--accum-freq", "2"]))


def no_memory(*args, **kwargs):
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


def break_forward(run):
    run.task.model.visual.register_forward_pre_hook(no_memory)


def break_backward(run):
    run.task.model.visual.proj.register_hook(no_memory)


def break_optimizer(run):
    run.optimizer.register_step_pre_hook(no_memory)


def break_save(run):
    run.trainer.hooks = Hooks([SaveEvery(1, no_memory)])


def break_evaluation(run):
    hook = Hook()
    hook.evaluate = no_memory
    run.trainer.hooks = Hooks([hook])


PLACES = {
    "in the forward pass": break_forward,
    "in the backward pass": break_backward,
    "in the optimizer step": break_optimizer,
    "while a checkpoint was saved": break_save,
    "in the evaluation": break_evaluation,
}


@pytest.mark.parametrize("place", PLACES)
def test_memory_that_runs_out_names_the_phase_the_settings_and_three_ways_out(place):
    run = SmallRun(make_batches(2), save_every=1)
    PLACES[place](run)
    with pytest.raises(DeviceError) as caught, explain_failures(CpuDevice(), PARAMS):
        run.train()
    message = str(caught.value)
    assert f"ran out of memory {place}, at --batch-size 48 x --accum-freq 2, --precision amp" in message
    for way in ("--batch-size", "--accum-freq", "--grad-checkpointing", "--precision amp_bf16", "--resume latest"):
        assert way in message
    assert caught.value.exit_status == 6


def test_before_training_there_is_no_phase():
    with pytest.raises(DeviceError, match="before training began"), explain_failures(CpuDevice(), PARAMS):
        no_memory()


def test_other_errors_pass_through_as_they_are():
    run = SmallRun(make_batches(1))
    run.task.model.visual.register_forward_pre_hook(lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught, explain_failures(CpuDevice(), PARAMS):
        run.train()
    assert phase_of(caught.value) == "forward"


def test_an_error_of_ours_keeps_its_words():
    with pytest.raises(DataError, match="^so it is$"), explain_failures(CpuDevice(), PARAMS):
        raise DataError("so it is")


def test_a_dead_worker_is_a_data_error():
    with pytest.raises(DataError, match="fewer --workers"), explain_failures(CpuDevice(), PARAMS):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")


def test_the_memory_error_of_torch_is_known():
    with pytest.raises(DeviceError, match="before training began"), explain_failures(CpuDevice(), PARAMS):
        raise torch.OutOfMemoryError("out of memory")
