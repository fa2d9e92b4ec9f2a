"""OpenAI's ResNet image tower: three-layer stem, antialiased strides, attention pooling. No preprocessing here.

Shapes: B batch, C channels, E output width.

Source: arXiv 2103.00020, section 2.4; parameter names and initial draws of open_clip.modified_resnet (3.3.0).
"""

from collections import OrderedDict
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.errors import ConfigError
from open_clip.transformer.freezing import LayerGroup, freeze_batch_norm_2d
from open_clip.transformer.patches import check_images
from open_clip.transformer.reading import accompany
from open_clip.transformer.stack import take_indices
from open_clip.transformer.types import Intermediates

_TOTAL_STRIDE = 32


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3 and 1x1 convolutions; a stride is an average pool before the last of them."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        outplanes = planes * self.expansion
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.act2 = nn.ReLU(inplace=True)
        self.avgpool: nn.Module = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, outplanes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outplanes)
        self.act3 = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if stride > 1 or inplanes != outplanes:
            # The pool stands at "-1" so that the layers with weights keep the names a plain ResNet gives them.
            layers: list[tuple[str, nn.Module]] = [
                ("-1", nn.AvgPool2d(stride)),
                ("0", nn.Conv2d(inplanes, outplanes, 1, bias=False)),
                ("1", nn.BatchNorm2d(outplanes)),
            ]
            self.downsample = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` [B, C, H, W] to [B, 4 planes, H / stride, W / stride]."""
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.act2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self.avgpool(out)))
        shortcut = x if self.downsample is None else self.downsample(x)
        activated: Tensor = self.act3(out + shortcut)
        return activated


class AttentionPool2d(nn.Module):
    """The mean of all positions reads the positions by attention and is projected to the output width."""

    def __init__(self, spacial_dim: int, embed_dim: int, num_heads: int, output_dim: int | None = None) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ConfigError(f"attention pool: width {embed_dim} cannot be cut into {num_heads} heads.")
        self.positional_embedding = nn.Parameter(torch.randn(spacial_dim**2 + 1, embed_dim) / embed_dim**0.5)
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.c_proj = nn.Linear(embed_dim, output_dim or embed_dim)
        self.num_heads = num_heads

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``x`` [B, C, H, W] into [B, E]."""
        positions = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([positions.mean(dim=1, keepdim=True), positions], dim=1)
        tokens = tokens + self.positional_embedding.to(tokens.dtype)
        # Only the mean's own answer is wanted, so only it asks.
        asking = self.q_proj(accompany(tokens[:, :1].contiguous()))
        query, key, value = (self._split_heads(part) for part in (asking, self.k_proj(tokens), self.v_proj(tokens)))
        attended = F.scaled_dot_product_attention(query, key, value)[:, :, 0]
        pooled: Tensor = self.c_proj(attended.flatten(1))
        return pooled


def _to_side(image_size: int | tuple[int, int]) -> int:
    """Turn an image size into the side of a square; the pool's position table fits no other shape."""
    if isinstance(image_size, int):
        return image_size
    if len(set(image_size)) != 1:
        raise ConfigError(f"a ResNet image tower needs square images, not {tuple(image_size)}; give one number.")
    return image_size[0]


class ModifiedResNet(nn.Module):
    """ResNet whose four stages follow a stem of three convolutions and end in an attention pool."""

    def __init__(
        self,
        layers: list[int] | tuple[int, ...],
        output_dim: int,
        heads: int,
        image_size: int | tuple[int, int] = 224,
        width: int = 64,
    ) -> None:
        super().__init__()
        if len(layers) != 4:
            raise ConfigError(f"a ResNet image tower has four stages; `layers` is {list(layers)}.")
        self.output_dim = output_dim
        self.image_size = _to_side(image_size)
        # The order of the draws below is part of the contract: a seed gives the weights upstream gives.
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.act3 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(2)
        inplanes = width
        for index, count in enumerate(layers):
            planes = width * 2**index
            stage = [Bottleneck(inplanes, planes, stride=1 if index == 0 else 2)]
            inplanes = planes * Bottleneck.expansion
            stage += [Bottleneck(inplanes, planes) for _ in range(count - 1)]
            self.add_module(f"layer{index + 1}", nn.Sequential(*stage))
        self.attnpool = AttentionPool2d(self.image_size // _TOTAL_STRIDE, inplanes, heads, output_dim)
        self.init_parameters()

    def init_parameters(self) -> None:
        """Draw the pool's projections anew and close every residual branch."""
        pool = self.attnpool
        for layer in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
            nn.init.normal_(layer.weight, std=pool.c_proj.in_features**-0.5)
        for module in self.modules():
            if isinstance(module, Bottleneck):
                # A gain of zero in the last norm: every block begins as its shortcut.
                nn.init.zeros_(module.bn3.weight)

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze the whole tower, with ``freeze_bn_stats`` its batch norms' statistics too.

        Raises:
            ConfigError: some groups were to stay trainable, which this tower does not know.
        """
        if unlocked_groups:
            raise ConfigError(
                f"a ResNet image tower is locked as a whole; unlocked_groups is {unlocked_groups}, and only 0 works."
            )
        self.requires_grad_(False)
        if freeze_bn_stats:
            freeze_batch_norm_2d(self)

    def layer_groups(self) -> list[LayerGroup]:
        """List the tower's parts from the input to the output, for learning rates by depth."""
        stem: LayerGroup = [self.conv1, self.bn1, self.conv2, self.bn2, self.conv3, self.bn3]
        return [stem, *([stage] for stage in self._stages()), [self.attnpool]]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Accept the switch and do nothing: computing a block twice would count its batch statistics twice."""

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay should leave alone: none by name."""
        return set()

    def stem(self, x: Tensor) -> Tensor:
        """Turn images [B, 3, H, W] into [B, width, H / 4, W / 4]."""
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        x = self.act3(self.bn3(self.conv3(x)))
        pooled: Tensor = self.avgpool(x)
        return pooled

    def _stages(self) -> list[nn.Module]:
        return [self.get_submodule(f"layer{index}") for index in range(1, 5)]

    def forward(self, x: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] as [B, E]."""
        size, cell = (self.image_size, self.image_size), (_TOTAL_STRIDE, _TOTAL_STRIDE)
        check_images(x, getattr(self.conv1, "in_channels", None), size, cell, len(self.attnpool.positional_embedding))
        x = self.stem(x)
        for stage in self._stages():
            x = stage(x)
        pooled: Tensor = self.attnpool(x)
        return pooled

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        output_extra_tokens: bool = False,
    ) -> Intermediates:
        """Encode images and collect the outputs of the stem (0) and of some stages (1 to 4).

        ``indices`` as in ``VisionTransformer.forward_intermediates``. Stages are skipped by ``stop_early`` only when
        ``intermediates_only``. There is neither a final norm nor an extra token, so what asks for them is ignored.

        Raises:
            ConfigError: another format than NCHW, or a stage that does not exist.
        """
        if output_fmt != "NCHW":
            raise ConfigError(f"image_output_fmt is {output_fmt!r}; a ResNet gives no other form than NCHW.")
        stages = self._stages()
        taken = take_indices(len(stages) + 1, indices)
        last = max(taken) if stop_early and intermediates_only and taken else len(stages)
        x = self.stem(x)
        collected = [x] if 0 in taken else []
        for index, stage in enumerate(stages[:last], start=1):
            x = stage(x)
            if index in taken:
                collected.append(x)
        output: Intermediates = {"image_intermediates": collected}
        if not intermediates_only:
            output["image_features"] = self.attnpool(x)
        return output
