"""Read the tensors of a checkpoint folder: each process the parts it holds, or one process all of them.

Any number of processes can read what any other number wrote.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.state_dict_loader import load

from open_clip.errors import CheckpointError, cut_list, printable
from training.checkpoint.metadata import ShardReader, read_metadata
from training.checkpoint.schema import Payload
from training.checkpoint.sharded import STATES, WEIGHTS, reason_of
from training.distributed.fsdp import reshard
from training.optim import State


def load_sharded_weights(model: torch.nn.Module, folder: Path) -> None:
    """Load a folder's weights into a bare or spread model; every process must call it.

    Raises:
        CheckpointError: When they do not fit the model.
    """
    reshard(model)
    state = model.state_dict()
    metadata = read_metadata(folder)
    _check_fit(state, metadata, folder)
    _load({f"{WEIGHTS}{name}": value for name, value in state.items()}, folder)


def load_sharded_optimizer(
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    values: State,
    folder: Path,
) -> State:
    """Read a folder's optimizer state as ``optimizer.load_state_dict`` takes it; every process must call it.

    Args:
        parameters: What :func:`payload.name_parameters` gives of the run, bare or spread.
        optimizer: Their optimizer, which says which parts to read.
        values: The entry ``optimizer`` of the folder's notes.
        folder: The checkpoint.

    Raises:
        ValueError: When the groups hold other parameters than those that were saved.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    groups = [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    saved = [group["params"] for group in values["param_groups"]]
    if groups != saved:
        changed = sorted({name for group in groups for name in group} ^ {name for group in saved for name in group})
        raise ValueError(f"its groups hold other parameters than the run's: {cut_list(changed) or 'in another order'}")
    tensors = _make_targets({name: parameters[name] for group in groups for name in group}, read_metadata(folder))
    _load(tensors, folder)
    return _as_torch_saves(values, tensors)


def read_whole(folder: Path, notes: Payload) -> Payload:
    """Read a folder as one payload in upstream's layout; needs memory for all of it, and no model.

    Raises:
        CheckpointError: When a tensor cannot be read.
    """
    metadata = read_metadata(folder)
    values = notes["optimizer"]
    weights = {f"{WEIGHTS}{name}": name for name in notes["order_of_weights"]}
    names = [name for group in values["param_groups"] for name in group["params"]]
    states = [f"{STATES}{name}.{kind}" for name in names for kind in values["kinds"].get(name, ())]
    entries = metadata.state_dict_metadata
    if missing := [key for key in (*weights, *states) if key not in entries]:
        raise CheckpointError(f"{printable(folder)}: lacks {cut_list(missing)}. Take another checkpoint.")
    tensors = {
        key: torch.empty(entries[key].size, dtype=entries[key].properties.dtype)  # type: ignore[union-attr]
        for key in (*weights, *states)
    }
    _load(dict(tensors), folder)
    others = {key: value for key, value in notes.items() if key not in ("optimizer", "order_of_weights")}
    return {
        "epoch": others.pop("epoch"),
        "name": others.pop("name"),
        "state_dict": {name: tensors[key] for key, name in weights.items()},
        "optimizer": _as_torch_saves(values, {key: tensors[key] for key in states}),
        **others,
    }


def _as_torch_saves(values: State, tensors: Mapping[str, Tensor]) -> State:
    """Join an optimizer's values and tensors, and number its parameters in the order of the groups, as torch does."""
    names = [name for group in values["param_groups"] for name in group["params"]]
    states = {name: dict(values["state"].get(name, {})) for name in names}
    for key, tensor in tensors.items():
        name, _, kind = key.removeprefix(STATES).rpartition(".")
        states[name][kind] = tensor
    numbers = {name: number for number, name in enumerate(names)}
    groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in values["param_groups"]]
    return {"state": {numbers[name]: state for name, state in states.items() if state}, "param_groups": groups}


def _check_fit(state: dict[str, Tensor], metadata: Metadata, folder: Path) -> None:
    saved = {
        key.removeprefix(WEIGHTS): tuple(entry.size)  # type: ignore[union-attr]
        for key, entry in metadata.state_dict_metadata.items()
        if key.startswith(WEIGHTS)
    }
    own = {name: tuple(value.shape) for name, value in state.items()}
    if saved != own:
        differ = sorted(name for name in saved.keys() | own.keys() if saved.get(name) != own.get(name))
        raise CheckpointError(
            f"{printable(folder)}: {len(differ)} of its weights do not fit the model: {cut_list(differ)}. Give the "
            "--model it was saved with; to resize its positions, export it to one file first "
            "(python -m training.export)."
        )


def _make_targets(parameters: dict[str, torch.nn.Parameter], metadata: Metadata) -> dict[str, Tensor]:
    targets = {}
    for key, entry in metadata.state_dict_metadata.items():
        if not key.startswith(STATES):
            continue
        name, _, kind = key.removeprefix(STATES).rpartition(".")
        parameter, size = parameters.get(name), tuple(entry.size)  # type: ignore[union-attr]
        dtype = entry.properties.dtype  # type: ignore[union-attr]
        if parameter is None or size != tuple(parameter.shape) or not dtype.is_floating_point:
            own = "no parameter of the run" if parameter is None else f"{tuple(parameter.shape)} in the model"
            shown = f"{printable(name, 120)}: {printable(kind, 60)}"
            raise CheckpointError(f"{shown} is {size} of {dtype} in the file and {own}")
        targets[key] = torch.zeros_like(parameter.detach(), dtype=dtype)
    return targets


def _load(tensors: dict[str, Tensor], folder: Path) -> None:
    """Read tensors in place, each process the parts it holds."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(tensors, storage_reader=ShardReader(folder))
    except CheckpointException as error:
        reason = reason_of(error)
        raise CheckpointError(f"{printable(folder)}: cannot be read ({reason}). Take another checkpoint.") from error
