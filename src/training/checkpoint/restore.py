"""Put a checkpoint back into a run, once everything in it is compared with the run; reads no file of weights itself."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch

from open_clip.checkpoint import list_mismatches, load_weights, normalise_state_dict
from open_clip.errors import CheckpointError, ConfigError, cut_list, printable
from training.checkpoint.identity import refuse_other_model
from training.checkpoint.payload import Order, Trained, name_parameters, refuse_nonfinite
from training.checkpoint.schema import FOLDER, OWN_AVERAGE, OWN_WEIGHTS, Payload, is_training_checkpoint
from training.data import name_changes
from training.device import restore_rng
from training.distributed import is_sharded, unwrap_model
from training.optim import State, WeightAverage, fit_optimizer_state, load_optimizer_state

_LOG = logging.getLogger(__name__)


class Stored(Protocol):
    """The tensors of a checkpoint: in the payload itself, or in the files of a folder."""

    def load_weights(self, model: torch.nn.Module) -> None:
        """Load the weights into a bare or a spread model.

        Raises:
            CheckpointError: When they do not fit, or are not finite.
        """

    def optimizer_state(self, trained: Trained) -> State:
        """Give the optimizer's state as ``load_state_dict`` takes it, compared with what the optimizer keeps.

        Raises:
            CheckpointError: When it does not fit.
            ValueError: When the groups hold other parameters.
        """


def restore(payload: Payload, path: Path, trained: Trained, order: Order) -> Payload | None:
    """Put a payload back.

    Returns:
        The saved progress; for upstream's files ``{"epoch": N}`` alone; None for a bare state dict, of which only the
        weights are used.

    Raises:
        CheckpointError: When the file does not fit the model or holds non-finite weights.
        ConfigError: When it was saved inside an epoch whose sample order cannot be continued with these flags.
    """
    restore_weights(trained.model, payload, path)
    restore_own(trained.own, payload, path)
    trained.mixed.refresh_masters()
    if not is_training_checkpoint(payload) or "epoch" not in payload:
        restore_averages(trained.average, trained.own_average, payload, path)
        return None
    training_state = payload.get("training_state") or {}
    progress: Payload = training_state.get("progress") or {"epoch": payload["epoch"]}
    if progress.get("batch"):
        _check_order(training_state.get("order") or {}, order, path)
    else:
        _tell_of_other_data(training_state.get("order"), order, path)
    try:
        if "optimizer" in payload:
            load_optimizer_state(trained.optimizer, _stored(payload).optimizer_state(trained))
        if "scaler" in payload:
            trained.mixed.load_state_dict(payload["scaler"])
    except (CheckpointError, ValueError) as error:
        raise CheckpointError(
            f"{printable(path)}: the optimizer or scaler state does not fit this run: {str(error).rstrip('.')}. "
            "Resume with the flags it was saved with (--model, --force-image-size, --force-context-length, "
            "--precision, --opt, locked towers), or start anew from its weights: --pretrained instead of --resume."
        ) from error
    restore_averages(trained.average, trained.own_average, payload, path)
    _restore_rng(training_state.get("rng", []), path, trained)
    return progress


def restore_weights(model: torch.nn.Module, payload: Payload, path: Path) -> None:
    """Put only the weights of a payload into a model, wrapped or not.

    Raises:
        CheckpointError: When they do not fit the model or are not finite.
        ConfigError: When they were trained in another model or with images prepared otherwise.
    """
    refuse_other_model(unwrap_model(model), payload, path)
    try:
        _stored(payload).load_weights(unwrap_model(model))
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)}: {error}") from error


def restore_own(own: torch.nn.Module | None, payload: Payload, path: Path) -> None:
    """Put the parameters of a recipe's own back; they begin anew where weights alone are loaded.

    Raises:
        ConfigError: When the checkpoint has some and the recipe of this run has none.
        CheckpointError: When the recipe has some and a checkpoint with an optimizer has none, or they do not fit.
    """
    saved = payload.get(OWN_WEIGHTS)
    if own is None and saved is not None:
        raise ConfigError(
            f"{printable(path)}: holds parameters of a recipe ({OWN_WEIGHTS}) and this run's recipe has none. Give the "
            "recipe that it was trained with, or start anew from its weights with --pretrained FILE."
        )
    if own is None:
        return
    if saved is None:
        if "optimizer" in payload:
            raise CheckpointError(
                f"{printable(path)}: holds no parameters of the recipe ({OWN_WEIGHTS}), which this run's recipe has. "
                "Start anew from its weights with --pretrained FILE."
            )
        _LOG.warning("%s holds no parameters of the recipe; they begin anew.", printable(path))
        return
    if problems := list_mismatches(own, saved):
        listed = "\n".join(problems)
        raise CheckpointError(f"{printable(path)}: its entry {OWN_WEIGHTS} does not fit the recipe.\n{listed}")
    refuse_nonfinite(saved, CheckpointError, f"{printable(path)}: its entry {OWN_WEIGHTS} is not finite")
    own.load_state_dict(saved)


def restore_averages(
    average: WeightAverage | None, own_average: WeightAverage | None, payload: Payload, path: Path
) -> None:
    """Go on with a checkpoint's averages, or begin them at the weights that were put back.

    Raises:
        CheckpointError: An average does not fit.
    """
    if average is None and "state_dict_ema" in payload:
        _LOG.warning("%s holds averaged weights; without --ema-decay they are not kept up.", printable(path))
    num_updates = payload["ema_updates"] if "ema_updates" in payload else payload.get("global_step", 0)
    for kept, entry in ((average, "state_dict_ema"), (own_average, OWN_AVERAGE)):
        if kept is None:
            continue
        saved = payload.get(entry)
        if saved is None:
            _LOG.warning("%s holds no averaged weights; the average begins at its weights.", printable(path))
            kept.restart()
        elif not isinstance(saved, dict):
            raise CheckpointError(f"{printable(path)}: its entry {entry} holds no weights. Take another checkpoint.")
        else:
            try:
                kept.load_state_dict(saved, num_updates)
            except CheckpointError as error:
                raise CheckpointError(f"{printable(path)}: {error}") from error


class _WholeFile:
    """Tensors that stand in the payload."""

    def __init__(self, payload: Payload) -> None:
        self._payload = payload

    def load_weights(self, model: torch.nn.Module) -> None:
        state = normalise_state_dict(self._payload)
        refuse_nonfinite(state, CheckpointError, "its weights are not finite")
        load_weights(model, state)

    def optimizer_state(self, trained: Trained) -> State:
        state = fit_optimizer_state(trained.optimizer, self._payload["optimizer"], trained.parameter_names())
        if not is_sharded(trained.model):
            return state
        from training.checkpoint.gathered import spread_optimizer_state

        return spread_optimizer_state(trained.optimizer, state)


class _Folder:
    """Tensors that each process reads its part of; ``sharded_read`` is slow to import."""

    def __init__(self, notes: Payload) -> None:
        self._notes = notes
        self._folder = Path(notes[FOLDER])

    def load_weights(self, model: torch.nn.Module) -> None:
        from training.checkpoint.sharded_read import load_sharded_weights

        load_sharded_weights(model, self._folder)

    def optimizer_state(self, trained: Trained) -> State:
        from training.checkpoint.sharded_read import load_sharded_optimizer

        saved = self._notes["optimizer"]
        names = name_parameters(unwrap_model(trained.model), trained.own)
        state = load_sharded_optimizer(names, trained.optimizer, saved, self._folder)
        return fit_optimizer_state(trained.optimizer, state, trained.parameter_names())


def _stored(payload: Payload) -> Stored:
    return _Folder(payload) if FOLDER in payload else _WholeFile(payload)


def _restore_rng(snapshots: Sequence[Mapping[str, object]], path: Path, trained: Trained) -> None:
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


def _check_order(saved: Payload, order: Order, path: Path) -> None:
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
