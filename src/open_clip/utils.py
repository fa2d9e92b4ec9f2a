"""The small functions that programs import from ``open_clip.utils``; our own code has them where they belong."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from open_clip.transformer.freezing import freeze_batch_norm_2d
from open_clip.transformer.norms import FrozenBatchNorm2d
from open_clip.transformer.stack import feature_take_indices
from open_clip.tuples import to_1tuple, to_2tuple, to_3tuple, to_4tuple, to_ntuple

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
