"""Make the loop of a run: what it is fed with, how it steps, what guards it."""

from collections.abc import Callable, Sequence

from training.assembly.data import make_receive
from training.assembly.parts import Parts
from training.assembly.place import Place
from training.distributed import StopRequest
from training.loop import (
    Feed,
    Hook,
    Hooks,
    Plan,
    Prefetcher,
    Progress,
    Recorder,
    Recovery,
    StepGuard,
    Stepper,
    Trainer,
)
from training.optim import build_schedule
from training.params import RunParams


def build_trainer(
    params: RunParams,
    place: Place,
    parts: Parts,
    progress: Progress,
    *,
    stop: StopRequest,
    hooks: Sequence[Hook],
    roll_back: Callable[[], tuple[Progress, str] | None],
    recorder: Recorder,
) -> Trainer:
    """Make the loop over the parts of a run that trains.

    Args:
        params: The run's flags.
        place: Where this process computes.
        parts: The run's parts, with training data and an optimizer.
        progress: Where it goes on.
        stop: Asks for an end.
        hooks: What goes along, in the order in which it hears of a step.
        roll_back: Puts a checkpoint back; gives where that is and its name, or None where there is none.
        recorder: Hears what happens.
    """
    assert parts.train_loader is not None
    assert parts.length is not None
    assert parts.optimizer is not None
    assert params.optim.lr is not None
    # A graph that was captured must be told where a step begins.
    is_captured = params.model.torchcompile and params.model.torchcompile_mode != "default"
    feed = Feed(
        parts.train_loader,
        Prefetcher(place.device, place.torch_device),
        make_receive(place, parts.train_quarantine, enforce_budget=False),
        parts.train_quarantine,
    )
    guard = StepGuard(params.guards, stop, place.world, place.device, place.torch_device, lambda: feed.num_bad_rows)
    return Trainer(
        Stepper(
            parts.task,
            parts.optimizer,
            parts.mixed,
            place.device,
            grad_clip_norm=params.optim.grad_clip_norm,
            guard=guard,
            begin_step=place.device.begin_step if is_captured else lambda: None,
            world=place.world,
        ),
        feed,
        build_schedule(params.schedule, params.optim.lr, parts.length),
        plan=Plan(
            length=parts.length,
            accum_freq=params.optim.accum_freq,
            log_every_n_steps=params.report.log_every_n_steps,
            record_every_n_steps=params.report.log_metric_every_n_steps,
        ),
        progress=progress,
        hooks=Hooks(hooks),
        roll_back=roll_back,
        recorder=recorder,
        guard=guard,
        recovery=Recovery(
            params.guards,
            progress,
            recorder,
            params.data.batch_size * place.world.world_size,
            feed.check_bad_rows,
        ),
        world=place.world,
        batch_size=params.data.batch_size,
        read_later=place.device.read_later,
    )
