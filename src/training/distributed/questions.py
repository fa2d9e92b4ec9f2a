"""Who a process is, under upstream's names and signatures; ``env`` finds it out.

Source: open_clip_train.distributed (3.3.0).
"""

from typing import Any

from training.distributed.env import world_from_environment


def is_global_master(args: Any) -> bool:
    """Tell whether ``args.rank`` is the first of all."""
    return bool(args.rank == 0)


def is_local_master(args: Any) -> bool:
    """Tell whether ``args.local_rank`` is the first of its machine."""
    return bool(args.local_rank == 0)


def is_master(args: Any, local: bool = False) -> bool:
    """Tell whether a process speaks for all, or with ``local`` for its machine."""
    return is_local_master(args) if local else is_global_master(args)


def is_using_distributed() -> bool:
    """Tell whether the launcher started more than one process."""
    return world_from_environment().is_distributed


def world_info_from_env() -> tuple[int, int, int]:
    """Return (local rank, rank, number of processes) as the launcher's variables say."""
    world = world_from_environment()
    return world.local_rank, world.rank, world.world_size
