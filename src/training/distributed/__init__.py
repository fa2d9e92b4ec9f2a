"""Processes that train together: who they are, how they meet, what they tell each other."""

from training.distributed.collectives import (
    barrier,
    broadcast_object,
    gather_objects,
    gather_rows,
    mean_over_processes,
    reduce_flags,
)
from training.distributed.env import World, world_from_environment
from training.distributed.questions import (
    is_global_master,
    is_local_master,
    is_master,
    is_using_distributed,
    world_info_from_env,
)
from training.distributed.setup import start_process_group, stop_process_group, unwrap_model, wrap_model
from training.distributed.signals import StopRequest

__all__ = [
    "StopRequest",
    "World",
    "barrier",
    "broadcast_object",
    "gather_objects",
    "gather_rows",
    "is_global_master",
    "is_local_master",
    "is_master",
    "is_using_distributed",
    "mean_over_processes",
    "reduce_flags",
    "start_process_group",
    "stop_process_group",
    "unwrap_model",
    "world_from_environment",
    "world_info_from_env",
    "wrap_model",
]
