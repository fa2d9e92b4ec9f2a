"""Who this process is among its fellows, read from the launcher's environment variables; starts nothing."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from open_clip.errors import ConfigError
from training.distributed.rank_table import read_rank_table
from training.distributed.slurm import tasks_on_this_node

_LOCAL_ADDRESSES = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class World:
    """This process's place: rank of world_size, local_rank on its machine.

    Attributes:
        local_world_size: Processes on this machine; where no launcher says, those known for sure.
        launcher: What started the processes: ``torchrun``, ``slurm``, ``openmpi``, ``intelmpi``, ``ascend``,
            ``environment`` (variables set by hand) or nothing.
        device_index: Device the launcher assigned; None leaves the choice to ``local_rank``.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    launcher: str = field(default="", compare=False)
    device_index: int | None = field(default=None, compare=False)

    @property
    def is_master(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are fellows to talk to."""
        return self.world_size > 1


def world_from_environment(environ: Mapping[str, str] = os.environ) -> World:
    """Read torchrun's, Slurm's, Open MPI's, Intel MPI's or an Ascend cluster's variables; the first that fit win.

    Raises:
        ConfigError: When a launcher's variables are incomplete in value: not numbers, or a rank outside its world.
    """
    for read in _READERS:
        world = read(environ)
        if world is not None:
            return world
    return World()


def _read_torchrun(environ: Mapping[str, str]) -> World | None:
    """Read torchrun's variables, which people also set by hand and then often without the last one."""
    world = _read(environ, "LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", launcher="environment")
    if world is None:
        return None
    if "TORCHELASTIC_RUN_ID" in environ:
        return replace(world, launcher="torchrun")
    if "LOCAL_WORLD_SIZE" not in environ and environ.get("MASTER_ADDR") in _LOCAL_ADDRESSES:
        return replace(world, local_world_size=world.world_size)
    return world


def _read_slurm(environ: Mapping[str, str]) -> World | None:
    """Read srun's variables; the step's count of tasks wins over the job's, which a batch script has too."""
    size = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    if environ.get(size) == "1":
        return None
    world = _read(environ, "SLURM_LOCALID", "SLURM_PROCID", size, None, launcher="slurm")
    if world is None:
        return None
    return replace(world, local_world_size=tasks_on_this_node(environ) or world.local_world_size)


def _read_openmpi(environ: Mapping[str, str]) -> World | None:
    prefix = "OMPI_COMM_WORLD_"
    names = (f"{prefix}LOCAL_RANK", f"{prefix}RANK", f"{prefix}SIZE", f"{prefix}LOCAL_SIZE")
    return _read(environ, *names, launcher="openmpi")


def _read_intelmpi(environ: Mapping[str, str]) -> World | None:
    """Read the variables of Intel MPI and of others with Hydra; srun sets the PMI ones too, without a local rank."""
    if "MPI_LOCALRANKID" not in environ and "SLURM_PROCID" in environ:
        return None
    return _read(environ, "MPI_LOCALRANKID", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", launcher="intelmpi")


def _read_ascend(environ: Mapping[str, str]) -> World | None:
    """Read an Ascend cluster's RANK_ID with RANK_SIZE or the table of RANK_TABLE_FILE, and the device it assigned."""
    if "RANK_ID" not in environ:
        return None
    path = environ.get("RANK_TABLE_FILE", "")
    # One process on one card is started with these variables too, often with a path that leads nowhere.
    if environ.get("RANK_SIZE") == "1":
        return None
    if path and (os.path.isfile(path) or "RANK_SIZE" not in environ):
        table, rank = read_rank_table(path), _number(environ, "RANK_ID")
        _check(rank, len(table.devices), "RANK_ID", path)
        world = World(
            rank,
            table.local_rank(rank),
            len(table.devices),
            table.local_world_size(rank),
            "ascend",
            _visible_index(environ, table.devices[rank].device_id),
        )
        return world if world.is_distributed else None
    assigned = next((name for name in ("DEVICE_ID", "ASCEND_DEVICE_ID") if name in environ), None)
    world_or_none = _read(environ, assigned, "RANK_ID", "RANK_SIZE", None, launcher="ascend")
    if world_or_none is None or assigned is None:
        return world_or_none
    return replace(world_or_none, device_index=_visible_index(environ, world_or_none.local_rank))


# mpirun before Slurm: inside a batch script its processes see the script's own Slurm variables too.
_READERS: tuple[Callable[[Mapping[str, str]], World | None], ...] = (
    _read_torchrun,
    _read_openmpi,
    _read_intelmpi,
    _read_slurm,
    _read_ascend,
)


def _read(
    environ: Mapping[str, str], local_rank: str | None, rank: str, size: str, local_size: str | None, *, launcher: str
) -> World | None:
    """Read one launcher's row of names; None when it did not start this process."""
    if rank not in environ or size not in environ:
        return None
    place = _number(environ, local_rank) if local_rank in environ else 0  # type: ignore[arg-type]
    known = local_size is not None and local_size in environ
    world = World(
        rank=_number(environ, rank),
        local_rank=place,
        world_size=_number(environ, size),
        local_world_size=_number(environ, local_size) if known else place + 1,  # type: ignore[arg-type]
        launcher=launcher,
    )
    _check(world.rank, world.world_size, rank, size)
    return world


def _number(environ: Mapping[str, str], name: str) -> int:
    try:
        return int(environ[name])
    except ValueError as error:
        raise ConfigError(f"{name}={environ[name]!r} in the environment is no number. Fix the launcher.") from error


def _check(rank: int, size: int, rank_name: str, size_name: str) -> None:
    if not 0 <= rank < size:
        raise ConfigError(f"{rank_name}={rank} is outside 0..{size - 1} ({size_name}). Fix the launcher.")


def _visible_index(environ: Mapping[str, str], device_id: int) -> int:
    """Turn a card's number into its place among the visible ones, which is what the device room counts by."""
    visible = [word.strip() for word in environ.get("ASCEND_RT_VISIBLE_DEVICES", "").split(",") if word.strip()]
    return visible.index(str(device_id)) if str(device_id) in visible else device_id
