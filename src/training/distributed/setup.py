"""Start and end the process group."""

import datetime
import os

import torch
import torch.distributed as dist

from open_clip.errors import DeviceError
from training.device import Device
from training.distributed.env import World


def start_process_group(
    device: Device,
    world: World,
    *,
    backend: str | None = None,
    init_method: str | None = None,
    timeout_s: float = 1800.0,
) -> None:
    """Join the other processes; does nothing for a single one.

    Args:
        device: Gives the backend and the settings its collectives need.
        world: Place of this process.
        backend: Collective backend in place of the device's own.
        init_method: Where processes meet; ``env://`` when None.
        timeout_s: Seconds a collective may wait.

    Raises:
        DeviceError: When the group cannot be formed, with the address and what to check.
    """
    if not world.is_distributed:
        return
    for name, value in device.hang_environment(timeout_s).items():
        os.environ.setdefault(name, value)
    try:
        dist.init_process_group(
            backend=backend or device.collective_backend,
            init_method=init_method or "env://",
            rank=world.rank,
            world_size=world.world_size,
            timeout=datetime.timedelta(seconds=timeout_s),
        )
    except (RuntimeError, ValueError) as error:
        where = init_method or f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
        reason = " ".join(str(error).split())[:300]
        raise DeviceError(
            f"process {world.rank} of {world.world_size} could not join the others at {where}: {reason}. "
            "Check that all processes were started, that the port is free and that --dist-backend fits the device."
        ) from error


def stop_process_group() -> None:
    """Leave the group; safe to call when there is none."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def wrap_model(
    model: torch.nn.Module, torch_device: torch.device, world: World, *, static_graph: bool = False
) -> torch.nn.Module:
    """Wrap a model for synchronised gradients; a single process gets it back as it is."""
    if not world.is_distributed:
        return model
    device_ids = None if torch_device.index is None else [torch_device.index]
    return torch.nn.parallel.DistributedDataParallel(
        model, device_ids=device_ids, static_graph=static_graph, gradient_as_bucket_view=True
    )


def unwrap_model(model: torch.nn.Module) -> torch.nn.Module:
    """Give the model inside a wrapper of :func:`wrap_model`, or the model itself."""
    return model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) else model
