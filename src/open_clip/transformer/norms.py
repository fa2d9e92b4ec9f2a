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
