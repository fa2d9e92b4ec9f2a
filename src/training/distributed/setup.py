"""Start and end the process group."""

import datetime
import os
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook, fp16_compress_hook
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from open_clip.errors import DeviceError
from training.device import Device
from training.distributed.env import World
from training.distributed.loopback import serve_on_loopback, stay_on_loopback
from training.distributed.meeting import meeting_variables
from training.distributed.patience import wait_for_others
from training.distributed.rollcall import call_roll

# Torch 2.14 has another name for whether buffers are sent in each forward pass, and warns of the old one.
_SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(torch.nn.parallel.DistributedDataParallel.__init__).parameters
    else "broadcast_buffers"
)
#: Types in which gradients may travel, each with the hook that casts them there and back.
COMM_HOOKS = {"bf16": bf16_compress_hook, "fp16": fp16_compress_hook}


def start_process_group(
    device: Device,
    world: World,
    *,
    backend: str | None = None,
    init_method: str | None = None,
    timeout_s: float = 1800.0,
) -> Store | None:
    """Join the other processes; does nothing for a single one.

    Args:
        device: Gives the backend and the settings its collectives need.
        world: Place of this process.
        backend: Collective backend in place of the device's own.
        init_method: Where processes meet; ``env://`` when None.
        timeout_s: Seconds a collective may wait.

    Returns:
        The store the processes met at, where they can leave each other notes; None in a single process.

    Raises:
        DeviceError: When the group cannot be formed, with the address and what to check.
        Preempted: torchrun, which started this process, is gone.
    """
    if not world.is_distributed:
        return None
    for name, value in device.hang_environment(timeout_s).items():
        os.environ.setdefault(name, value)
    if init_method is None or init_method == "env://":
        os.environ.update(meeting_variables(world))
    timeout = datetime.timedelta(seconds=timeout_s)
    try:
        store = wait_for_others(lambda: _meet(init_method or "env://", world, timeout), world)
        dist.init_process_group(
            backend=backend or device.collective_backend,
            store=PrefixStore("group", store),
            rank=world.rank,
            world_size=world.world_size,
            timeout=timeout,
        )
    except (RuntimeError, ValueError, OSError) as error:
        where = init_method or f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
        reason = " ".join(str(error).split())[:300]
        raise DeviceError(
            f"process {world.rank} of {world.world_size} could not join the others at {where}: {reason}. "
            "Check that all processes were started, that the port is free and that --dist-backend fits the device."
        ) from error
    return store


def _meet(url: str, world: World, timeout: datetime.timedelta) -> Store:
    stay_on_loopback(url)
    store: Store = (
        serve_on_loopback(url, world, timeout)
        or next(rendezvous(url, world.rank, world.world_size, timeout=timeout))[0]
    )
    return call_roll(store, world.rank, world.world_size, timeout.total_seconds())


def stop_process_group() -> None:
    """Leave the group; safe to call when there is none."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


@dataclass(frozen=True)
class DdpOptions:
    """How DistributedDataParallel exchanges gradients.

    Attributes:
        static_graph: Every step uses the same parameters.
        find_unused: Some steps use only a part of the parameters.
        bucket_mb: Megabytes of gradients sent together; torch's own choice when None.
        comm_dtype: Type in which gradients travel: one of ``COMM_HOOKS``, or their own when None.
    """

    static_graph: bool = False
    find_unused: bool = False
    bucket_mb: int | None = None
    comm_dtype: str | None = None


def wrap_model(
    model: torch.nn.Module, torch_device: torch.device, world: World, options: DdpOptions = DdpOptions()
) -> torch.nn.Module:
    """Wrap a model for synchronised gradients; a single process gets it back as it is."""
    if not world.is_distributed:
        return model
    sync_buffers: dict[str, Any] = {_SYNC_BUFFERS: _has_running_state(model)}
    wrapped = torch.nn.parallel.DistributedDataParallel(
        model,
        device_ids=None if torch_device.index is None else [torch_device.index],
        static_graph=options.static_graph,
        find_unused_parameters=options.find_unused,
        bucket_cap_mb=options.bucket_mb,
        gradient_as_bucket_view=True,
        **sync_buffers,
    )
    if options.comm_dtype is not None:
        wrapped.register_comm_hook(None, COMM_HOOKS[options.comm_dtype])
    return wrapped


def _has_running_state(model: torch.nn.Module) -> bool:
    """Say whether a model has buffers that checkpoints hold, as batch norms do; masks are alike on every rank."""
    own = model.state_dict(keep_vars=True)
    return any(not isinstance(value, torch.nn.Parameter) for value in own.values())


def unwrap_model(model: torch.nn.Module) -> torch.nn.Module:
    """Give the model inside a wrapper of :func:`wrap_model`, or the model itself."""
    return model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) else model
