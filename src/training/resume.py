"""Find the checkpoint a run goes on from and put it back into the run's parts; writes none."""

import logging
from pathlib import Path
from typing import Any

from open_clip.checkpoint import read_checkpoint
from training.build import Parts, Place
from training.checkpoint import Order, Trained, read_newest, restore, restore_weights
from training.distributed import World, broadcast_object
from training.loop import Progress
from training.params import RunParams

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
    )


def resume(params: RunParams, parts: Parts, place: Place) -> tuple[Progress, Path | None]:
    """Put the checkpoint of ``--resume`` back into the parts.

    Returns:
        Where the run goes on, and the file it came from; the start and None without ``--resume``.
    """
    wanted = params.checkpoint.resume
    if wanted is None:
        return Progress(), None
    found = _find_checkpoint(wanted, place)
    if found is None:
        _LOG.info("nothing to resume in %s: starting from the beginning", place.folder.checkpoints)
        return Progress(), None
    path, payload = found
    if parts.optimizer is None or parts.train_loader is None:
        restore_weights(parts.task.model, payload, path)
        _LOG.info("=> loaded weights '%s' (epoch %s) for evaluation", path, payload.get("epoch", "unknown"))
        return Progress(epoch=int(payload.get("epoch", 0)), step=int(payload.get("global_step", 0))), path
    trained = Trained(parts.task.model, parts.optimizer, parts.mixed, place.device, place.world)
    state = restore(payload, path, trained, order_of(params, parts, place.world))
    if state is None:
        _LOG.info("=> loaded weights '%s'; it holds no run to go on with, so training starts at epoch 0", path)
        return Progress(), path
    progress = Progress.from_state_dict(state)
    if "step" not in state:
        steps = -(-parts.train_loader.num_batches // params.optim.accum_freq)
        progress.step = progress.epoch * steps
        progress.samples_seen = progress.epoch * parts.train_loader.num_batches * params.data.batch_size
        progress.samples_seen *= place.world.world_size
    _LOG.info("=> resuming checkpoint '%s' (epoch %d, step %d)", path, progress.epoch, progress.step)
    return progress, path


def _find_checkpoint(wanted: str, place: Place) -> tuple[Path, dict[str, Any]] | None:
    if wanted != "latest":
        return Path(wanted), read_checkpoint(wanted)
    assert place.folder.checkpoints is not None
    # The master chooses, so that all processes go on from one file even while others are being written or removed.
    path, payload = None, None
    if place.world.is_master:
        found = read_newest(place.folder.checkpoints, on_damaged=lambda message: _LOG.warning("%s", message))
        path, payload = found if found is not None else (None, None)
    path = broadcast_object(path, place.world)
    if path is None:
        return None
    return path, payload if payload is not None else read_checkpoint(path)
