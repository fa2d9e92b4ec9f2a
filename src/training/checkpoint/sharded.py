"""Write and read the tensors of a checkpoint folder, each process its own part; any number of processes can read it.

Everything but tensors is in the folder's notes (``folders``). A save is all or nothing: the folder gets its name when
every process has its part on the disk.
"""

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from open_clip.errors import CheckpointError, cut_list, printable
from open_clip.files import TEMPORARY, sync_folder
from training.checkpoint.digest import Digest, digest_file
from training.checkpoint.folders import NOTES, seal_folder
from training.checkpoint.gathered import refuse_nonfinite
from training.checkpoint.metadata import ShardReader, read_metadata
from training.checkpoint.payload import name_parameters
from training.checkpoint.write import remove_checkpoint, write_checkpoint
from training.distributed import World, broadcast_object, gather_objects
from training.distributed.fsdp import reshard, share_buffers

_WEIGHTS = "model."
_STATES = "optimizer."


def save_sharded(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    notes: dict[str, Any],
    world: World,
    own: torch.nn.Module | None = None,
) -> None:
    """Write a checkpoint folder; every process must call it, at the same point.

    Args:
        path: The folder's name; a folder that has it is replaced.
        model: A spread model.
        optimizer: Its optimizer.
        notes: What else the checkpoint holds; the master's are written.
        world: Place of this process.
        own: The recipe's own parameters, which the optimizer has too; their values stand in the notes.

    Raises:
        NumericsError: When a weight is not finite; in every process.
        CheckpointError: When it cannot be written; in every process. Nothing is left behind.
    """
    reshard(model)
    share_buffers(model)
    tensors, values = _split_state(model, optimizer, own)
    _refuse_nonfinite(tensors, world)
    notes = {**notes, "optimizer": values, "order_of_weights": list(model.state_dict())}
    temporary: Path = broadcast_object(path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}"), world)
    try:
        on_master(world, lambda: temporary.mkdir(parents=True))
        _write_parts(tensors, temporary)
        digests = _digest_parts(temporary, world)
        on_master(world, lambda: _finish(temporary, path, notes, digests))
    except CheckpointError as error:
        if world.is_master:
            shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"could not write {path}: {error}. Earlier checkpoints are untouched.") from error


def load_sharded_weights(model: torch.nn.Module, folder: Path) -> None:
    """Load a folder's weights into a bare or spread model; every process must call it.

    Raises:
        CheckpointError: When they do not fit the model.
    """
    reshard(model)
    state = model.state_dict()
    metadata = read_metadata(folder)
    _check_fit(state, metadata, folder)
    _load({f"{_WEIGHTS}{name}": value for name, value in state.items()}, folder)


def load_sharded_optimizer(
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    values: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
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
    order = [name for group in groups for name in group]
    targets = _make_targets({name: parameters[name] for name in order}, read_metadata(folder))
    _load(targets, folder)
    states = {name: dict(values["state"].get(name, {})) for name in order}
    for key, tensor in targets.items():
        name, _, kind = key.removeprefix(_STATES).rpartition(".")
        states[name][kind] = tensor
    numbers = {name: number for number, name in enumerate(order)}
    return {
        "state": {numbers[name]: state for name, state in states.items() if state},
        "param_groups": [
            {**group, "params": [numbers[name] for name in group["params"]]} for group in values["param_groups"]
        ],
    }


def read_whole(folder: Path, notes: dict[str, Any]) -> dict[str, Any]:
    """Read a folder as one payload in upstream's layout; needs memory for all of it, and no model.

    Raises:
        CheckpointError: When a tensor cannot be read.
    """
    metadata = read_metadata(folder)
    values = notes["optimizer"]
    order = [name for group in values["param_groups"] for name in group["params"]]
    wanted = [f"{_WEIGHTS}{name}" for name in notes["order_of_weights"]]
    wanted += [f"{_STATES}{name}.{kind}" for name in order for kind in values["kinds"].get(name, ())]
    if missing := [key for key in wanted if key not in metadata.state_dict_metadata]:
        raise CheckpointError(f"{printable(folder)}: lacks {cut_list(missing)}. Take another checkpoint.")
    tensors = {
        key: torch.empty(entry.size, dtype=entry.properties.dtype)  # type: ignore[union-attr]
        for key, entry in metadata.state_dict_metadata.items()
    }
    _load(dict(tensors), folder)
    numbers = {name: number for number, name in enumerate(order)}
    states: dict[int, dict[str, Any]] = {}
    for name in order:
        state = dict(values["state"].get(name, {}))
        for key in values["kinds"].get(name, ()):
            state[key] = tensors[f"{_STATES}{name}.{key}"]
        if state:
            states[numbers[name]] = state
    groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in values["param_groups"]]
    others = {key: value for key, value in notes.items() if key not in ("optimizer", "order_of_weights")}
    return {
        "epoch": others.pop("epoch"),
        "name": others.pop("name"),
        "state_dict": {name: tensors[f"{_WEIGHTS}{name}"] for name in notes["order_of_weights"]},
        "optimizer": {"state": states, "param_groups": groups},
        **others,
    }


def on_master(world: World, work: Callable[[], None]) -> None:
    """Do what only the master does; every process must call it.

    Raises:
        CheckpointError: When it failed; in every process.
    """
    problem: str | None = None
    if world.is_master:
        try:
            work()
        except (OSError, CheckpointError) as error:
            problem = _reason(error)
    problem = broadcast_object(problem, world)
    if problem is not None:
        raise CheckpointError(problem)


def _split_state(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, own: torch.nn.Module | None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tell the tensors that are spread or large from the rest of the optimizer's state; parameters by their names."""
    tensors = {f"{_WEIGHTS}{name}": value.detach() for name, value in model.state_dict().items()}
    names = {id(parameter): name for name, parameter in name_parameters(model, own).items()}
    kinds: dict[str, list[str]] = {}
    states: dict[str, dict[str, Any]] = {}
    groups = []
    for group in optimizer.param_groups:
        groups.append({**group, "params": [names[id(parameter)] for parameter in group["params"]]})
        for parameter in group["params"]:
            name = names[id(parameter)]
            for key, value in optimizer.state.get(parameter, {}).items():
                # The step is a tensor of one value too, and on the host.
                if isinstance(value, Tensor) and key != "step" and value.shape == parameter.shape:
                    tensors[f"{_STATES}{name}.{key}"] = value
                    kinds.setdefault(name, []).append(key)
                else:
                    states.setdefault(name, {})[key] = value
    return tensors, {"param_groups": groups, "state": states, "kinds": kinds}


def _refuse_nonfinite(tensors: dict[str, Tensor], world: World) -> None:
    bad = []
    for name, value in tensors.items():
        own = value.to_local() if hasattr(value, "to_local") else value
        if name.startswith(_WEIGHTS) and own.is_floating_point() and not torch.isfinite(own).all():
            bad.append(name.removeprefix(_WEIGHTS))
    refuse_nonfinite(sorted(set().union(*gather_objects(bad, world))))


def _write_parts(tensors: dict[str, Tensor], folder: Path) -> None:
    writer = FileSystemWriter(folder, single_file_per_rank=True, sync_files=True, thread_count=1)
    try:
        with warnings.catch_warnings():
            # That there is one process only needs no warning.
            warnings.simplefilter("ignore")
            save(dict(tensors), storage_writer=writer)
    except CheckpointException as error:
        # torch gathers the failures: every process raises.
        first = next(iter(error.failures.values()))[0]
        raise CheckpointError(_reason(first)) from error


def _digest_parts(folder: Path, world: World) -> dict[str, Digest]:
    """Digest the files, each process its own."""
    digests: dict[str, Digest] = {}
    problem: str | None = None
    try:
        names = [path.name for path in folder.glob(f"__{world.rank}_*")]
        digests = {name: digest_file(folder / name) for name in names}
    except OSError as error:
        problem = _reason(error)
    gathered = gather_objects((digests, problem), world)
    problems = [problem for _, problem in gathered if problem is not None]
    if problems:
        raise CheckpointError(problems[0])
    return {name: digest for part, _ in gathered for name, digest in part.items()}


def _finish(temporary: Path, path: Path, notes: dict[str, Any], digests: dict[str, Digest]) -> None:
    digests[NOTES] = write_checkpoint(notes, temporary / NOTES)
    digests[".metadata"] = digest_file(temporary / ".metadata")
    seal_folder(temporary, digests)
    sync_folder(temporary)
    remove_checkpoint(path)
    temporary.replace(path)
    sync_folder(path.parent)


def _check_fit(state: dict[str, Tensor], metadata: Metadata, folder: Path) -> None:
    saved = {
        key.removeprefix(_WEIGHTS): tuple(entry.size)  # type: ignore[union-attr]
        for key, entry in metadata.state_dict_metadata.items()
        if key.startswith(_WEIGHTS)
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
        if not key.startswith(_STATES):
            continue
        name, _, kind = key.removeprefix(_STATES).rpartition(".")
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
        first = next(iter(error.failures.values()))[0]
        raise CheckpointError(
            f"{printable(folder)}: cannot be read ({_reason(first)}). Take another checkpoint."
        ) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(" ".join(str(error).split()), 200) or type(error).__name__
