"""Which parameters are decayed; builds no optimizer."""

from collections.abc import Iterable
from typing import Any

import torch


def is_undecayed(name: str, parameter: torch.Tensor) -> bool:
    """Tell whether weight decay leaves a parameter alone: vectors, norms, biases and the logit scale.

    Source: open_clip 3.3.0 (positional and class embeddings are decayed).
    """
    return parameter.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale"))


def parameter_groups(
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]], weight_decay: float
) -> list[dict[str, Any]]:
    """Sort trainable parameters into an undecayed and a decayed group, in that order.

    The order is upstream's, so optimizer states are interchangeable with it.
    """
    undecayed: list[torch.nn.Parameter] = []
    decayed: list[torch.nn.Parameter] = []
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            (undecayed if is_undecayed(name, parameter) else decayed).append(parameter)
    return [{"params": undecayed, "weight_decay": 0.0}, {"params": decayed, "weight_decay": weight_decay}]
