"""Find the checkpoint a run goes on from and put it back into the run's parts; writes none."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from open_clip.errors import CheckpointError, printable
from training.assembly import Parts, Place, refuse_untrained
from training.checkpoint import (
    Order,
    Trained,
    is_remote,
    read_verified,
    refuse_other_recipe,
    restore,
    restore_weights,
)
from training.checkpoint.schema import FOLDER
from training.distributed import World, unwrap_model
from training.elsewhere import read_address, read_latest
from training.loop import Progress
from training.params import CheckpointParams, RunParams

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


def resume(params: RunParams, parts: Parts, place: Place) -> tuple[Progress, Path | None]:
    """Put the checkpoint of ``--resume`` back into the parts.

    Returns:
        Where the run goes on, and the file it came from; the start and None without ``--resume``.
    """
    wanted = params.checkpoint.resume
    if wanted is None:
        return Progress(), None
    found = _find_checkpoint(wanted, params.checkpoint, place)
    if found is None:
        if parts.optimizer is None:
            refuse_untrained(unwrap_model(parts.task.model))
        # Loud, since a mistyped --name looks the same; the first start of a job that may be started again is right.
        _LOG.warning("nothing to resume in %s: starting from the beginning", place.folder.checkpoints)
        return Progress(), None
    path, payload = found
    if parts.optimizer is None or parts.train_loader is None:
        restore_weights(parts.task.model, payload, path)
        restore_average(parts, payload, path)
        _LOG.info("=> loaded weights '%s' (epoch %s) for evaluation", printable(path), payload.get("epoch", "unknown"))
        counts = payload if "state_dict" in payload or FOLDER in payload else {}
        return Progress(epoch=counts.get("epoch", 0), step=counts.get("global_step", 0)), path
    refuse_other_recipe(parts.task.name, unwrap_model(parts.task.model), payload, path)
    trained = Trained(parts.task.model, parts.optimizer, parts.mixed, place.device, place.world)
    state = restore(payload, path, trained, order_of(params, parts, place.world))
    restore_average(parts, payload, path)
    if state is None:
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
    if "step" not in state:
        steps = -(-parts.train_loader.num_batches // params.optim.accum_freq)
        progress.step = progress.epoch * steps
        progress.samples_seen = progress.epoch * parts.train_loader.num_batches * params.data.batch_size
        progress.samples_seen *= place.world.world_size
    _LOG.info("=> resuming checkpoint '%s' (epoch %d, step %d)", printable(path), progress.epoch, progress.step)
    return progress, path


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
    assert parts.optimizer is not None
    here = replace(params.checkpoint, remote_sync=None)
    found = _find_checkpoint("latest", here, place) if place.folder.checkpoints is not None else None
    if found is None and resumed_from is not None:
        # A path would not bear the two slashes of an address.
        given = params.checkpoint.resume
        found = _find_checkpoint(given if given and given != "latest" else str(resumed_from), here, place)
    if found is None:
        return None
    path, payload = found
    trained = Trained(parts.task.model, parts.optimizer, parts.mixed, place.device, place.world)
    state = restore(payload, path, trained, order_of(params, parts, place.world))
    restore_average(parts, payload, path)
    return None if state is None or "step" not in state else (Progress.from_state_dict(state), path)


def average_entries(parts: Parts) -> dict[str, Any]:
    """Give a checkpoint's entries of the averaged weights; none where the run keeps none."""
    average = parts.task.average
    return {} if average is None else {"state_dict_ema": average.state_dict(), "ema_updates": average.num_updates}


def restore_average(parts: Parts, payload: dict[str, Any], path: Path) -> None:
    """Go on with a checkpoint's averaged weights, or begin an average at the weights that were put back.

    Raises:
        CheckpointError: The average does not fit the model.
    """
    average, saved = parts.task.average, payload.get("state_dict_ema")
    if average is None:
        if saved is not None:
            _LOG.warning("%s holds averaged weights; without --ema-decay they are not kept up.", printable(path))
    elif saved is None:
        _LOG.warning("%s holds no averaged weights; the average begins at its weights.", printable(path))
        average.restart()
    else:
        if not isinstance(saved, dict):
            raise CheckpointError(
                f"{printable(path)}: its entry state_dict_ema holds no weights. Take another checkpoint."
            )
        try:
            average.load_state_dict(saved, payload.get("ema_updates", payload.get("global_step", 0)))
        except CheckpointError as error:
            raise CheckpointError(f"{printable(path)}: {error}") from error


def _find_checkpoint(wanted: str, params: CheckpointParams, place: Place) -> tuple[Path, dict[str, Any]] | None:
    if wanted == "latest":
        return read_latest(params, place.folder, place.world)
    if is_remote(wanted):
        return Path(wanted), read_address(wanted, place.world)
    return Path(wanted), read_verified(Path(wanted), is_verifier=place.world.local_rank == 0)
