"""Processes that train together: who they are, how they meet, what they tell each other."""

from training.distributed.collectives import (
    average_gradients,
    barrier,
    broadcast_object,
    gather_objects,
    gather_rows,
    mean_over_processes,
    sum_over_processes,
)
from training.distributed.env import World, world_from_environment
from training.distributed.questions import (
    is_global_master,
    is_local_master,
    is_master,
    is_using_distributed,
    world_info_from_env,
)
from training.distributed.relaunch import launch_words
from training.distributed.setup import DdpOptions, start_process_group, stop_process_group, unwrap_model, wrap_model
from training.distributed.sharding import Sharding, is_sharded, local_part, whole_model
from training.distributed.signals import StopRequest
from training.distributed.startup import (
    all_gather_object,
    init_distributed_device,
    init_distributed_device_so,
    is_device_available,
    is_using_horovod,
    set_device,
)
from training.distributed.stragglers import Standings, Stragglers
from training.distributed.watchdog import Limits, LostProcesses, Watchdog

__all__ = [
    "DdpOptions",
    "Limits",
    "LostProcesses",
    "Standings",
    "Sharding",
    "StopRequest",
    "Stragglers",
    "Watchdog",
    "World",
    "all_gather_object",
    "average_gradients",
    "barrier",
    "broadcast_object",
    "gather_objects",
    "gather_rows",
    "init_distributed_device",
    "init_distributed_device_so",
    "is_device_available",
    "is_global_master",
    "is_local_master",
    "is_master",
    "is_sharded",
    "is_using_distributed",
    "is_using_horovod",
    "launch_words",
    "local_part",
    "mean_over_processes",
    "set_device",
    "start_process_group",
    "stop_process_group",
    "sum_over_processes",
    "unwrap_model",
    "whole_model",
    "world_from_environment",
    "world_info_from_env",
    "wrap_model",
]
