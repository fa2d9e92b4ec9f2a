"""Names for what towers are built from and what they give. No code."""

from collections.abc import Callable
from typing import TypedDict

from torch import Tensor, nn

NormLayer = Callable[[int], nn.Module]
ActLayer = Callable[[], nn.Module]


class Intermediates(TypedDict, total=False):
    """What ``forward_intermediates`` gives: of a tower its own entries, of a model those of both and what it scores."""

    image_intermediates: list[Tensor]
    image_intermediates_prefix: list[Tensor]
    image_features: Tensor
    image_logits: Tensor
    text_intermediates: list[Tensor]
    text_intermediates_suffix: list[Tensor]
    text_features: Tensor
    text_logits: Tensor
    logit_scale: Tensor
    logit_bias: Tensor
