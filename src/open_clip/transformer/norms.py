"""Normalisation and scaling layers of the towers. No attention and no pooling here."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """Layer norm that gives back the type it was given, also under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of ``x`` [..., D]."""
        normed = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.to(x.dtype)


class LayerNormFp32(nn.LayerNorm):
    """Layer norm that computes in fp32 whatever comes in, for towers whose matrices are fp16 or bf16."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of ``x`` [..., D] in fp32 and give back the type of ``x``."""
        normed = F.layer_norm(x.to(torch.float32), self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.to(x.dtype)


class QuickGELU(nn.Module):
    """The sigmoid approximation of GELU that OpenAI's CLIP weights were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x * sigmoid(1.702 x)``."""
        return x * torch.sigmoid(1.702 * x)


class LayerScale(nn.Module):
    """A learned gain per channel on a residual branch.

    Source: arXiv 2103.17239, section 3.
    """

    def __init__(self, dim: int, init_values: float = 1e-5, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace
        self.gamma = nn.Parameter(init_values * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the last dimension of ``x`` [..., D]."""
        return x.mul_(self.gamma) if self.inplace else x * self.gamma


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and gains are constants: buffers under batch norm's names, never trained.

    Source: torchvision.ops.FrozenBatchNorm2d, including that a file's ``num_batches_tracked`` is dropped.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_load_state_dict_pre_hook(_drop_batch_count)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the channels of ``x`` [B, C, H, W] with the frozen statistics."""
        gain = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * gain
        return x * gain.to(x.dtype).view(1, -1, 1, 1) + shift.to(x.dtype).view(1, -1, 1, 1)

    def extra_repr(self) -> str:
        """Say how wide the layer is."""
        return f"{self.weight.shape[0]}, eps={self.eps}"


def _drop_batch_count(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    state_dict.pop(f"{prefix}num_batches_tracked", None)
