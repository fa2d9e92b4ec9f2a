"""Build the optimizer the device runs best."""

import logging
from typing import Any

import torch

from open_clip.errors import ConfigError
from training.device import Device
from training.optim.groups import parameter_groups
from training.params.optim import OptimParams

_LOG = logging.getLogger(__name__)
# Settings of how a step is computed, not of what: they belong to the device, never to a checkpoint.
_IMPLEMENTATION_KEYS = ("fused", "foreach", "capturable", "differentiable")


def build_optimizer(model: torch.nn.Module, params: OptimParams, device: Device) -> torch.optim.Optimizer:
    """Make AdamW over the model's trainable parameters, fused where the device has that.

    Raises:
        ConfigError: When every parameter is frozen.
    """
    groups = parameter_groups(model.named_parameters(), params.wd)
    trainable = [parameter for group in groups for parameter in group["params"]]
    if not trainable:
        raise ConfigError("every parameter is frozen: unlock a tower (--lock-image, --lock-text) to train.")
    if params.lr is None or params.beta1 is None or params.beta2 is None or params.eps is None:
        raise ConfigError("lr, beta1, beta2 and eps must be set; training.params.parse_args fills them in.")
    options = device.optimizer_options(trainable)
    _LOG.info(
        "Created AdamW (adamw) optimizer: lr: %s, betas: (%s, %s), eps: %s, weight_decay: %s, %s",
        params.lr,
        params.beta1,
        params.beta2,
        params.eps,
        params.wd,
        ", ".join(options) or "plain",
    )
    return torch.optim.AdamW(groups, lr=params.lr, betas=(params.beta1, params.beta2), eps=params.eps, **options)


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a saved optimizer state, keeping this device's own way to compute a step."""
    implementation = [
        {key: group[key] for key in _IMPLEMENTATION_KEYS if key in group} for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, implementation, strict=True):
        group.update(own)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
