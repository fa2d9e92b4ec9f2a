"""An image tower with a linear head. No loading, no transforms.

Shapes: B rows, E embedding width, C classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.checked_json import JsonObject
from open_clip.modeling.config import CLIPVisionCfg
from open_clip.modeling.towers import ImageTower, build_vision_tower
from open_clip.transformer.freezing import LayerGroup


class ImageClassifier(nn.Module):
    """Scores classes for images: ``visual``, named as in CLIP, and a linear ``head``.

    Attributes:
        classes: Names of the classes, in the order of the scores.
    """

    visual: ImageTower

    def __init__(
        self,
        embed_dim: int,
        vision_cfg: CLIPVisionCfg | JsonObject,
        classes: Sequence[str],
        quick_gelu: bool = False,
        cast_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.visual = build_vision_tower(embed_dim, vision_cfg, quick_gelu, cast_dtype)
        self._add_head(embed_dim, classes)

    @classmethod
    def on_tower(cls, visual: ImageTower, embed_dim: int, classes: Sequence[str]) -> "ImageClassifier":
        """Put a head on a tower that is there already; it is not copied."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.visual = visual
        made._add_head(embed_dim, classes)
        return made

    def _add_head(self, embed_dim: int, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.head = nn.Linear(embed_dim, len(self.classes))
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Score images [B, 3, H, W]: [B, C]."""
        scores: Tensor = self.head(self.encode_image(image))
        return scores

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Encode images [B, 3, H, W] as [B, E], scaled to length one when ``normalize``."""
        features: Tensor = self.visual(image)
        return F.normalize(features, dim=-1) if normalize else features

    def lock_image_tower(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze the image tower but for its last ``unlocked_groups`` groups of layers; the head stays trainable."""
        self.visual.lock(unlocked_groups=unlocked_groups, freeze_bn_stats=freeze_bn_stats)

    def layer_groups(self) -> dict[str, list[LayerGroup]]:
        """List the tower's parts from its input to its output; the head stands in no group."""
        return {"image": self.visual.layer_groups()}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: recompute each block in the backward pass."""
        self.visual.set_grad_checkpointing(enable)
