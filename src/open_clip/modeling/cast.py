"""Weight types by precision name, and casting a model's matrices. Autocast is the caller's business."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from open_clip.errors import ConfigError, suggest_nearest
from open_clip.transformer import LayerNormFp32

_CAST_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_PURE_DTYPES = {"pure_fp16": torch.float16, "pure_bf16": torch.bfloat16}
#: What ``create_model`` takes; weights stay in fp32 under those of autocast.
PRECISIONS = ("fp32", "amp", "amp_bf16", "amp_bfloat16", *_CAST_DTYPES, *_PURE_DTYPES)


def check_precision(precision: str) -> None:
    """Refuse a precision that there is not.

    Raises:
        ConfigError: it is not known.
    """
    if precision not in PRECISIONS:
        near = suggest_nearest(precision, PRECISIONS)
        raise ConfigError(f"precision {precision!r} is not known.{near} It can be {', '.join(PRECISIONS)}.")


def get_cast_dtype(precision: str) -> torch.dtype | None:
    """Return the type that ``fp16`` and ``bf16`` cast a model's matrices to, None for other precisions."""
    return _CAST_DTYPES.get(precision)


def get_pure_dtype(precision: str) -> torch.dtype | None:
    """Return the type that ``pure_fp16`` and ``pure_bf16`` cast a whole model to, None for other precisions."""
    return _PURE_DTYPES.get(precision)


def get_input_dtype(precision: str) -> torch.dtype | None:
    """Return the type images must have before they enter the model; None means fp32 or whatever they are."""
    return get_cast_dtype(precision) or get_pure_dtype(precision)


@runtime_checkable
class OwnsMatrices(Protocol):
    """A module that holds matrices which stand in no layer of torch's."""

    def own_matrices(self) -> list[Tensor | None]:
        """List the parameters of the module itself that go to half precision."""


def _own_matrices(module: nn.Module) -> list[Tensor | None]:
    """List the parameters of ``module`` itself that go to half precision; norms and embeddings are not among them."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        return [module.weight, module.bias]
    if isinstance(module, nn.MultiheadAttention):
        separate = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
        return [module.in_proj_weight, *separate, module.in_proj_bias]
    return module.own_matrices() if isinstance(module, OwnsMatrices) else []


def convert_weights_to_lp(model: nn.Module, dtype: torch.dtype = torch.float16) -> None:
    """Cast the matrices of a model in place and leave norms, embeddings and gains in fp32."""
    for module in model.modules():
        for parameter in _own_matrices(module):
            if parameter is not None:
                parameter.data = parameter.data.to(dtype)


def cast_all_but_norms(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast a whole model in place but for the norms that compute in fp32: towers made elsewhere know no other way."""
    model.to(dtype=dtype)
    for module in model.modules():
        if isinstance(module, LayerNormFp32):
            module.float()


convert_weights_to_fp16 = convert_weights_to_lp
