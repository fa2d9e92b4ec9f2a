"""Spread the model of a run over its processes as the flags say; how that is done is `distributed`'s."""

import logging

import torch

from open_clip.errors import ConfigError
from training.assembly.place import Place
from training.device import Precision
from training.distributed import Sharding
from training.params import FsdpParams

_LOG = logging.getLogger(__name__)


def spread_model(model: torch.nn.Module, params: FsdpParams, place: Place, precision: Precision) -> torch.nn.Module:
    """Spread a bare model before its optimizer is made; without ``--fsdp`` or fellow processes it stays as it is.

    Raises:
        ConfigError: When host memory is to hold what a loss scale needs on the device.
        DeviceError: When this torch cannot do it on the device.
    """
    if not params.fsdp:
        return model
    if precision.scaled and params.fsdp_offload_cpu:
        # The scaler's flags of overflows lie on the device, the gradients then do not.
        raise ConfigError(
            f"--fsdp-offload-cpu does not go with --precision {precision.requested}, which scales the loss here. Use "
            "--precision amp_bf16, or fp32 where the device has no bfloat16."
        )
    if not place.world.is_distributed:
        _LOG.warning("--fsdp has no effect in a single process: there is nobody to share the model with.")
        return model
    # Slow to import, and most runs do without.
    from training.distributed.fsdp import shard_model

    sharding = Sharding(
        param_dtype=torch.bfloat16 if precision.autocast_dtype is torch.bfloat16 else None,
        reshard_after_forward=not params.fsdp_no_reshard_after_forward,
        offload_to_cpu=params.fsdp_offload_cpu,
    )
    return shard_model(model, place.torch_device, place.world, sharding)
