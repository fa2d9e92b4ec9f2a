"""Attention on Ascend NPUs: torch_npu's fused kernel, called in the memory layout the towers have.

torch_npu maps scaled_dot_product_attention to the same kernel, but makes a causal mask of 2048 x 2048 in every call and
asks for heads before positions, so that tensors are turned around before and after. The kernel itself is torch_npu's.

Source: Ascend/op-plugin, op_plugin/ops/opapi/ScaledDotProductAttentionKernelNpuOpApi.cpp.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from open_clip.errors import first_line

_LOGGER = logging.getLogger(__name__)

# The kernel reads a causal mask of this size whatever the number of positions.
_MASK_SIZE = 2048
_UPPER_LEFT_CAUSAL = 2
_WITHOUT_LIMIT = 2**31 - 1
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


class FusedAttention:
    """A kernel for ``open_clip.transformer.kernels.register_attention``; for chips from 910B on.

    Args:
        kernel: ``torch_npu.npu_fusion_attention``, bound once: a graph that is compiled takes in no import.
    """

    def __init__(self, kernel: Callable[..., Sequence[Any]]) -> None:
        self._kernel = kernel
        self._masks: dict[torch.device, Tensor] = {}
        self._works = True

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        attn_mask: Tensor | None,
        is_causal: bool,
        dropout_p: float,
        scale: float | None,
    ) -> Tensor | None:
        """Attend from q [B, H, L, K] to k and v [B, H, S, K], or return None to leave it to torch.

        Masks are left to torch, dropout of everything, graphs that are being compiled, and all calls once the kernel
        has refused one.
        """
        # What the kernel returns beside tensors, and a refusal, would break the graph at every block; the compiler
        # knows torch's attention.
        if torch.compiler.is_compiling():
            return None
        # The kernel takes a keep_prob in (0, 1].
        if attn_mask is not None or dropout_p >= 1 or q.dtype not in _DTYPES or not self._works:
            return None
        try:
            return self._attend(q, k, v, is_causal, dropout_p, q.shape[-1] ** -0.5 if scale is None else scale)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError) as error:
            reason = first_line(error)
            _LOGGER.warning("npu_fusion_attention refused a call; torch's attention is used from now on: %s", reason)
            self._works = False
            return None

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool, dropout_p: float, scale: float) -> Tensor:
        attended: Tensor = self._kernel(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            q.shape[1],
            "BSND",
            atten_mask=self._causal_mask(q.device) if is_causal else None,
            scale=scale,
            keep_prob=1.0 - dropout_p,
            next_tockens=0 if is_causal else _WITHOUT_LIMIT,
            sparse_mode=_UPPER_LEFT_CAUSAL if is_causal else 0,
        )[0]
        return attended.transpose(1, 2)

    def _causal_mask(self, device: torch.device) -> Tensor:
        """Return the kernel's mask, True where forbidden, made once per device."""
        if device not in self._masks:
            # The kernel saves it for the backward pass, which a tensor of inference mode cannot be.
            with torch.inference_mode(False):
                everything = torch.ones(_MASK_SIZE, _MASK_SIZE, dtype=torch.bool, device=device)
                self._masks[device] = everything.triu(1)
        return self._masks[device]
