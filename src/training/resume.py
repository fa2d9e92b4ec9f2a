"""Find the checkpoint a run goes on from and put it back into the run's parts; writes none."""

import logging
from dataclasses import replace
from pathlib import Path

from open_clip.errors import CheckpointError, printable
from training.assembly import Parts, Place, refuse_untrained
from training.checkpoint import (
    Order,
    Payload,
    Trained,
    describe_recipe,
    is_remote,
    is_training_checkpoint,
    read_verified,
    refuse_other_recipe,
    restore,
    restore_averages,
    restore_own,
    restore_weights,
)
from training.distributed import World, unwrap_model
from training.elsewhere import read_address, read_latest
from training.loop import Progress
from training.params import CheckpointParams, RunParams
from training.tasks import Task

_LOG = logging.getLogger(__name__)


def order_of(params: RunParams, parts: Parts, world: World) -> Order:
    """Say what the order of the training samples depends on."""
    assert parts.train_loader is not None
    return Order(
        seed=params.hardware.seed,
        global_batch=params.data.batch_size * world.world_size,
        num_samples=parts.train_loader.num_samples,
        accum_freq=params.optim.accum_freq,
        arrangement=parts.train_loader.arrangement,
        data=parts.train_loader.contents,
    )


def trained_of(parts: Parts, place: Place) -> Trained:
    """Name the parts of a run that training changes."""
    assert parts.optimizer is not None
    task = parts.task
    return Trained(
        task.model, parts.optimizer, parts.mixed, place.device, place.world, task.own, task.average, task.own_average
    )


def resume(params: RunParams, parts: Parts, place: Place) -> tuple[Progress, Path | None]:
    """Put the checkpoint of ``--resume`` back into the parts.

    1. Find the checkpoint: the newest good one, or the file, folder or address that was named. Every byte is compared
       with its record, and every entry with what it may be, before anything is used.
    2. Without one the run starts at the beginning; a run that only evaluates stops.
    3. A run that only evaluates takes the weights.
    4. Refuse one that was trained with another recipe.
    5. Put everything back: weights, the recipe's parameters, averages, optimizer, loss scale, random states. The model,
       the optimizer and the order of the data are compared with the run's first.
    6. Weights alone hold no position: training starts at epoch 0.
    7. Upstream's files say the epoch alone: steps and rows are counted from it.

    Returns:
        Where the run goes on, and the file it came from; the start and None without ``--resume``.
    """
    wanted = params.checkpoint.resume
    if wanted is None:
        return Progress(), None
    found = _find_checkpoint(wanted, params.checkpoint, place)  # 1
    if found is None:  # 2
        if parts.optimizer is None:
            refuse_untrained(unwrap_model(parts.task.model))
        # Loud, since a mistyped --name looks the same; the first start of a job that may be started again is right.
        _LOG.warning("nothing to resume in %s: starting from the beginning", place.folder.checkpoints)
        return Progress(), None
    path, payload = found
    if parts.optimizer is None or parts.train_loader is None:  # 3
        return _take_weights(parts.task, payload, path), path
    recipe = describe_recipe(parts.task.name, params.hardware.precision, params.recipe.task)
    refuse_other_recipe(recipe, unwrap_model(parts.task.model), payload, path)  # 4
    state = restore(payload, path, trained_of(parts, place), order_of(params, parts, place.world))  # 5
    if state is None:  # 6
        _LOG.info(
            "=> loaded weights '%s'; it holds no run to go on with, so training starts at epoch 0", printable(path)
        )
        return Progress(), path
    progress = Progress.from_state_dict(state)
    num_batches = parts.train_loader.num_batches
    if progress.batch > num_batches:
        raise CheckpointError(
            f"{printable(path)}: says that {progress.batch} batches of its epoch are trained, of {num_batches}. Take "
            "another checkpoint."
        )
    if "step" not in state:  # 7
        progress.step = progress.epoch * -(-num_batches // params.optim.accum_freq)
        rows = params.data.batch_size * place.world.world_size
        progress.samples_seen = progress.epoch * num_batches * rows
    _LOG.info("=> resuming checkpoint '%s' (epoch %d, step %d)", printable(path), progress.epoch, progress.step)
    return progress, path


def _take_weights(task: Task, payload: Payload, path: Path) -> Progress:
    """Put back what an evaluation needs, and say where the run was that saved it."""
    restore_weights(task.model, payload, path)
    restore_own(task.own, payload, path)
    restore_averages(task.average, task.own_average, payload, path)
    _LOG.info("=> loaded weights '%s' (epoch %s) for evaluation", printable(path), payload.get("epoch", "unknown"))
    counts = payload if is_training_checkpoint(payload) else {}
    return Progress(epoch=counts.get("epoch", 0), step=counts.get("global_step", 0))


def roll_back(params: RunParams, parts: Parts, place: Place, resumed_from: Path | None) -> tuple[Progress, Path] | None:
    """Put the newest good checkpoint of the run back into its parts; every process calls it.

    Args:
        params: The run's flags.
        parts: The run's parts.
        place: Where this process computes.
        resumed_from: What to go back to while the run itself has saved nothing.

    Returns:
        Where the run goes on, and the file; None when there is none.
    """
    here = replace(params.checkpoint, remote_sync=None)
    found = _find_checkpoint("latest", here, place) if place.folder.checkpoints is not None else None
    if found is None and resumed_from is not None:
        # A path would not bear the two slashes of an address.
        given = params.checkpoint.resume
        found = _find_checkpoint(given if given and given != "latest" else str(resumed_from), here, place)
    if found is None:
        return None
    path, payload = found
    state = restore(payload, path, trained_of(parts, place), order_of(params, parts, place.world))
    return None if state is None or "step" not in state else (Progress.from_state_dict(state), path)


def _find_checkpoint(wanted: str, params: CheckpointParams, place: Place) -> tuple[Path, Payload] | None:
    if wanted == "latest":
        return read_latest(params, place.folder, place.world)
    if is_remote(wanted):
        return Path(wanted), read_address(wanted, place.world)
    return Path(wanted), read_verified(Path(wanted), is_verifier=place.world.local_rank == 0)
