"""What a checkpoint holds and how it goes back into a run.

The layout is upstream's (``epoch, name, state_dict, optimizer, scaler``), so either trainer reads the other's files;
what upstream lacks for an exact continuation stands under ``training_state``.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from open_clip.checkpoint import load_weights, normalise_state_dict
from open_clip.errors import CheckpointError, ConfigError, NumericsError, cut_list, printable
from training.checkpoint.identity import refuse_other_model
from training.checkpoint.schema import FOLDER
from training.data import name_changes
from training.device import Device, MixedPrecision, restore_rng, rng_snapshot
from training.distributed import World, gather_objects, is_sharded, unwrap_model
from training.optim import fit_optimizer_state, load_optimizer_state

SCHEMA = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """The parts of a run that training changes."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    mixed: MixedPrecision
    device: Device
    world: World


@dataclass(frozen=True)
class Order:
    """What the order of the samples depends on, and what they are; a continuation in mid-epoch needs the same."""

    seed: int
    global_batch: int
    num_samples: int
    accum_freq: int = 1
    arrangement: str = ""
    data: str = ""


def collect(
    trained: Trained,
    progress: dict[str, Any],
    order: Order,
    name: str,
    extras: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Gather the state of all processes into one payload; every process must call it.

    Args:
        trained: The live objects.
        progress: Plain numbers that say where the run is; ``epoch``, ``step`` and ``samples_seen`` among them.
        order: What the sample order depends on.
        name: Name of the run.
        extras: Further entries of the payload, of plain containers and tensors; :func:`restore` leaves them to others.

    Raises:
        NumericsError: When a weight is not finite; such a state is never saved.
    """
    model = unwrap_model(trained.model)
    if is_sharded(model):
        from training.checkpoint.gathered import gather_optimizer, gather_weights

        state, optimizer = gather_weights(model, trained.world), gather_optimizer(trained.optimizer, trained.world)
    else:
        state, optimizer = model.state_dict(), trained.optimizer.state_dict()
        _refuse_nonfinite(state, NumericsError, "the weights to be saved are not finite")
    first = {"epoch": progress["epoch"], "name": name, "state_dict": state, "optimizer": optimizer}
    return first | describe(trained, progress, order, name, extras)


def describe(
    trained: Trained, progress: dict[str, Any], order: Order, name: str, extras: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Gather what :func:`collect` does without weights and optimizer; every process must call it."""
    payload: dict[str, Any] = {
        "epoch": progress["epoch"],
        "name": name,
        "global_step": progress["step"],
        "samples_seen": progress["samples_seen"],
        "training_state": {
            "schema": SCHEMA,
            "progress": progress,
            "order": vars(order),
            "rng": gather_objects(rng_snapshot(trained.device), trained.world),
        },
    }
    scaler = trained.mixed.state_dict()
    if scaler:
        payload["scaler"] = scaler
    assert not payload.keys() & (extras or {}).keys()
    return payload | dict(extras or {})


def restore(payload: dict[str, Any], path: Path, trained: Trained, order: Order) -> dict[str, Any] | None:
    """Put a payload back.

    Returns:
        The saved progress; for upstream's files ``{"epoch": N}`` alone; None for a bare state dict, of which only the
        weights are used.

    Raises:
        CheckpointError: When the file does not fit the model or holds non-finite weights.
        ConfigError: When it was saved inside an epoch whose sample order cannot be continued with these flags.
    """
    restore_weights(trained.model, payload, path)
    trained.mixed.refresh_masters()
    if not {"state_dict", FOLDER} & payload.keys() or "epoch" not in payload:
        return None
    training_state = payload.get("training_state") or {}
    progress: dict[str, Any] = training_state.get("progress") or {"epoch": payload["epoch"]}
    if progress.get("batch"):
        _check_order(training_state.get("order") or {}, order, path)
    else:
        _tell_of_other_data(training_state.get("order"), order, path)
    try:
        if "optimizer" in payload:
            _load_optimizer(trained, payload)
        if "scaler" in payload:
            trained.mixed.load_state_dict(payload["scaler"])
    except (CheckpointError, ValueError) as error:
        raise CheckpointError(
            f"{printable(path)}: the optimizer or scaler state does not fit this run: {str(error).rstrip('.')}. "
            "Resume with the flags it was saved with (--model, --force-image-size, --force-context-length, "
            "--precision, --opt, locked towers), or start anew from its weights: --pretrained instead of --resume."
        ) from error
    _restore_rng(training_state.get("rng", []), path, trained)
    return progress


def restore_weights(model: torch.nn.Module, payload: dict[str, Any], path: Path) -> None:
    """Put only the weights of a payload into a model, wrapped or not.

    Raises:
        CheckpointError: When they do not fit the model or are not finite.
        ConfigError: When they were trained in another model or with images prepared otherwise.
    """
    refuse_other_model(unwrap_model(model), payload, path)
    if FOLDER in payload:
        from training.checkpoint.sharded import load_sharded_weights

        load_sharded_weights(unwrap_model(model), Path(payload[FOLDER]))
        return
    try:
        state = normalise_state_dict(payload)
        _refuse_nonfinite(state, CheckpointError, "its weights are not finite")
        load_weights(unwrap_model(model), state)
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)}: {error}") from error


def _restore_rng(snapshots: Sequence[Mapping[str, Any]], path: Path, trained: Trained) -> None:
    rank = trained.world.rank
    if rank >= len(snapshots):
        _LOG.warning("%s holds no random state for process %d: dropout will differ", printable(path), rank)
        return
    try:
        restore_rng(snapshots[rank], trained.device)
    except (ValueError, TypeError, RuntimeError) as error:
        # Whether the bytes are a state is known to the generators alone.
        reason = printable(" ".join(str(error).split()), 200)
        raise CheckpointError(
            f"{printable(path)}: its entry training_state.rng[{rank}] is no random state ({reason}). Take another "
            "checkpoint."
        ) from error


def _load_optimizer(trained: Trained, payload: dict[str, Any]) -> None:
    state = payload["optimizer"]
    model = unwrap_model(trained.model)
    if FOLDER in payload:
        from training.checkpoint.sharded import load_sharded_optimizer

        state = load_sharded_optimizer(model, trained.optimizer, state, Path(payload[FOLDER]))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    state = fit_optimizer_state(trained.optimizer, state, names)
    if FOLDER not in payload and is_sharded(trained.model):
        from training.checkpoint.gathered import spread_optimizer_state

        state = spread_optimizer_state(trained.optimizer, state)
    load_optimizer_state(trained.optimizer, state)


def _check_order(saved: dict[str, Any], order: Order, path: Path) -> None:
    changed = [
        f"{name} was {printable(saved[name], 200)} and is {printable(value, 200)}"
        for name, value in vars(order).items()
        # What an older file does not say is taken to be the same.
        if name != "data" and name in saved and saved[name] != value
    ]
    changed += _other_data(saved, order)
    if changed:
        raise ConfigError(
            f"{printable(path)} was saved inside an epoch and these settings or data changed its order: "
            f"{cut_list(changed)}. Give the old values (any number of processes with the same global batch will do), "
            "or resume from an epoch_N.pt file."
        )


def _tell_of_other_data(saved: object, order: Order, path: Path) -> None:
    """Warn of other training data where a new epoch may have it: more data is often meant, another file is not."""
    changed = _other_data(saved, order)
    if changed:
        _LOG.warning(
            "%s was trained on other data than this run has: %s. Training goes on.", printable(path), cut_list(changed)
        )


def _other_data(saved: object, order: Order) -> list[str]:
    """Name what is known to differ in the data; an older file says nothing of it."""
    before = saved.get("data") if isinstance(saved, Mapping) else None
    changes = name_changes(before, order.data) if isinstance(before, str) else []
    return [f"data: {printable(change, 200)}" for change in changes]


def _refuse_nonfinite(state: dict[str, torch.Tensor], error: type[Exception], what: str) -> None:
    floating = {name: value for name, value in state.items() if value.is_floating_point()}
    # A sum in one pass and one read tells that all is well; only a sum that is not finite asks for a closer look.
    sums = [value.sum(dtype=torch.float32) for value in floating.values()]
    if not sums or torch.stack(sums).isfinite().all():
        return
    bad = [name for name, value in floating.items() if not torch.isfinite(value).all()]
    if bad:
        raise error(f"{what}: {cut_list(bad)}. Go on from an earlier checkpoint with a lower --lr or --grad-clip-norm.")
