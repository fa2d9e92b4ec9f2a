"""Write the tensors of a checkpoint folder, each process its own part; ``sharded_read`` reads them.

Everything but tensors is in the folder's notes (``folders``). A save is all or nothing: the folder gets its name when
every process has its part on the disk.
"""

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from open_clip.errors import CheckpointError, printable
from open_clip.files import TEMPORARY, sync_folder
from training.checkpoint.digest import Digest, digest_file
from training.checkpoint.folders import NOTES, seal_folder
from training.checkpoint.gathered import refuse_nonfinite
from training.checkpoint.payload import name_parameters
from training.checkpoint.schema import Payload
from training.checkpoint.write import remove_checkpoint, write_checkpoint
from training.distributed import World, broadcast_object, gather_objects, local_part
from training.distributed.fsdp import reshard, share_buffers
from training.optim import State

#: How names of tensors begin in the folder; those of an optimizer end in what it calls them.
WEIGHTS, STATES = "model.", "optimizer."


def save_sharded(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    notes: Payload,
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
            problem = reason_of(error)
    problem = broadcast_object(problem, world)
    if problem is not None:
        raise CheckpointError(problem)


def _split_state(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, own: torch.nn.Module | None
) -> tuple[dict[str, Tensor], State]:
    """Tell the tensors that are spread or large from the rest of the optimizer's state; parameters by their names."""
    tensors = {f"{WEIGHTS}{name}": value.detach() for name, value in model.state_dict().items()}
    names = {id(parameter): name for name, parameter in name_parameters(model, own).items()}
    kinds: dict[str, list[str]] = {}
    states: dict[str, State] = {}
    groups = []
    for group in optimizer.param_groups:
        groups.append({**group, "params": [names[id(parameter)] for parameter in group["params"]]})
        for parameter in group["params"]:
            name = names[id(parameter)]
            for key, value in optimizer.state.get(parameter, {}).items():
                # The step is a tensor of one value too, and on the host.
                if isinstance(value, Tensor) and key != "step" and value.shape == parameter.shape:
                    tensors[f"{STATES}{name}.{key}"] = value
                    kinds.setdefault(name, []).append(key)
                else:
                    states.setdefault(name, {})[key] = value
    return tensors, {"param_groups": groups, "state": states, "kinds": kinds}


def _refuse_nonfinite(tensors: dict[str, Tensor], world: World) -> None:
    bad = []
    for name, value in tensors.items():
        own = local_part(value)
        if name.startswith(WEIGHTS) and own.is_floating_point() and not torch.isfinite(own).all():
            bad.append(name.removeprefix(WEIGHTS))
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
        raise CheckpointError(reason_of(error)) from error


def _digest_parts(folder: Path, world: World) -> dict[str, Digest]:
    """Digest the files, each process its own."""
    digests: dict[str, Digest] = {}
    problem: str | None = None
    try:
        names = [path.name for path in folder.glob(f"__{world.rank}_*")]
        digests = {name: digest_file(folder / name) for name in names}
    except OSError as error:
        problem = reason_of(error)
    gathered = gather_objects((digests, problem), world)
    problems = [problem for _, problem in gathered if problem is not None]
    if problems:
        raise CheckpointError(problems[0])
    return {name: digest for part, _ in gathered for name, digest in part.items()}


def _finish(temporary: Path, path: Path, notes: Payload, digests: dict[str, Digest]) -> None:
    digests[NOTES] = write_checkpoint(notes, temporary / NOTES)
    digests[".metadata"] = digest_file(temporary / ".metadata")
    seal_folder(temporary, digests)
    sync_folder(temporary)
    remove_checkpoint(path)
    temporary.replace(path)
    sync_folder(path.parent)


def reason_of(error: BaseException) -> str:
    """Put what went wrong into one line; of torch's failures, one a process, the first."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(" ".join(str(error).split()), 200) or type(error).__name__
