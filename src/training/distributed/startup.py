"""Start-up under upstream's names and signatures, for programs with a loop of their own; the trainer uses ``setup``.

Source: open_clip_train.distributed (3.3.0).
"""

from typing import Any

import torch

from open_clip.errors import DeviceError
from training.device import select_device
from training.distributed.collectives import gather_objects
from training.distributed.env import World, world_from_environment
from training.distributed.setup import start_process_group


def is_device_available(device: str) -> bool:
    """Tell whether a device, such as ``cpu`` or one with an index, can be used here."""
    try:
        select_device(device)
    except DeviceError:
        return False
    return True


def set_device(device: str | torch.device) -> None:
    """Make a device the current one of this process.

    Raises:
        DeviceError: It cannot be used here.
    """
    select_device(str(device)).activate()


def is_using_horovod() -> bool:
    """Tell that Horovod is never in use."""
    return False


def init_distributed_device_so(
    device: str = "auto",
    dist_backend: str | None = None,
    dist_url: str | None = None,
    horovod: bool = False,
    no_set_device_rank: bool = False,
) -> dict[str, Any]:
    """Join the processes that the launcher started and choose this one's device.

    Args:
        device: Kind of device; upstream's default is one kind, here it is the best one of the machine.
        dist_backend: Collective backend in place of the device's own.
        dist_url: Where processes meet; ``env://`` when None.
        horovod: Accepted and not used.
        no_set_device_rank: Use the device as it is named, not the one of this process's local rank.

    Returns:
        ``device`` (a string), ``global_rank``, ``local_rank``, ``world_size`` and ``distributed``.

    Raises:
        DeviceError: The device cannot be used, or the others cannot be joined.
    """
    world = world_from_environment()
    chosen = select_device(device)
    local = (
        None if no_set_device_rank or not world.is_distributed or chosen.process_limit() is None else world.local_rank
    )
    place = chosen.activate(local)
    start_process_group(chosen, world, backend=dist_backend, init_method=dist_url)
    return {
        "device": str(place),
        "global_rank": world.rank,
        "local_rank": world.local_rank,
        "world_size": world.world_size,
        "distributed": world.is_distributed,
    }


def init_distributed_device(args: Any) -> torch.device:
    """Do ``init_distributed_device_so`` as ``args`` asks and write the answer into it.

    Reads device, dist_backend, dist_url and no_set_device_rank where they are there; sets device, rank, local_rank,
    world_size, distributed and horovod.
    """
    found = init_distributed_device_so(
        getattr(args, "device", None) or "auto",
        getattr(args, "dist_backend", None),
        getattr(args, "dist_url", None),
        no_set_device_rank=getattr(args, "no_set_device_rank", False),
    )
    args.device, args.rank, args.local_rank = found["device"], found["global_rank"], found["local_rank"]
    args.world_size, args.distributed, args.horovod = found["world_size"], found["distributed"], False
    return torch.device(args.device)


def all_gather_object(args: Any, obj: Any, dst: int = 0) -> list[Any]:
    """Give every process the list of all processes' objects, by rank; ``dst`` is read by no one."""
    return gather_objects(obj, World(rank=args.rank, local_rank=args.local_rank, world_size=args.world_size))
