"""The small functions that programs import from ``open_clip.utils``; our own code has them where they belong."""

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

import torch
from torch import nn

from open_clip.transformer.freezing import freeze_batch_norm_2d
from open_clip.transformer.norms import FrozenBatchNorm2d
from open_clip.transformer.stack import take_indices

__all__ = [
    "FrozenBatchNorm2d",
    "convert_int8_model_to_inference_mode",
    "feature_take_indices",
    "freeze_batch_norm_2d",
    "replace_linear",
    "to_1tuple",
    "to_2tuple",
    "to_3tuple",
    "to_4tuple",
    "to_ntuple",
]


def to_ntuple(n: int, x: Any) -> Any:
    """Repeat ``x`` ``n`` times in a tuple; anything iterable is returned as it is."""
    return x if isinstance(x, Iterable) else tuple(repeat(x, n))


def to_1tuple(x: Any) -> Any:
    """Put ``x`` into a tuple of one unless it is iterable."""
    return to_ntuple(1, x)


def to_2tuple(x: Any) -> Any:
    """Put ``x`` into a pair unless it is iterable."""
    return to_ntuple(2, x)


def to_3tuple(x: Any) -> Any:
    """Put ``x`` into a tuple of three unless it is iterable."""
    return to_ntuple(3, x)


def to_4tuple(x: Any) -> Any:
    """Put ``x`` into a tuple of four unless it is iterable."""
    return to_ntuple(4, x)


def feature_take_indices(
    num_features: int, indices: int | list[int] | None = None, as_set: bool = False
) -> tuple[list[int] | set[int], int]:
    """Turn an index argument (None = all, n = the last n, a list = those) into block numbers and the largest of them.

    Raises:
        ConfigError: a number points outside the ``num_features`` blocks.
    """
    taken = take_indices(num_features, indices)
    return (set(taken) if as_set else taken), max(taken)


def replace_linear(
    model: nn.Module,
    linear_replacement: Callable[..., nn.Linear],
    include_modules: Iterable[str] = ("c_fc", "c_proj"),
    copy_weights: bool = True,
) -> nn.Module:
    """Replace the linear layers of these names, wherever they are, by another class; in place.

    ``linear_replacement`` is called with the widths in and out and whether there is a bias.
    """
    wanted = set(include_modules)
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if not isinstance(layer, nn.Linear) or name not in wanted:
                continue
            replaced = linear_replacement(layer.in_features, layer.out_features, layer.bias is not None)
            if copy_weights:
                replaced.load_state_dict(layer.state_dict())
            module.add_module(name, replaced)
    return model


def convert_int8_model_to_inference_mode(model: nn.Module) -> None:
    """Call ``prepare_for_eval`` of every layer that has it, as bitsandbytes' do, and keep its first type beside it."""
    for module in model.modules():
        prepare = getattr(module, "prepare_for_eval", None)
        if prepare is not None:
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            dtype = weight.dtype
            prepare()
            module.int8_original_dtype = dtype  # type: ignore[assignment]
