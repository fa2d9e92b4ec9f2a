"""CoCa's loss: contrastive plus captioning. Shifting captions against logits is the model's job.

Shapes: B rows of this rank, L predicted positions, V vocabulary, E embedding width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from open_clip.loss.clip import ClipLoss


class CoCaLoss(ClipLoss):
    """CLIP's loss and the cross entropy of the caption's tokens, each times its weight.

    Source: open_clip.loss.CoCaLoss (3.3.0); arXiv 2205.01917, section 3.2.
    """

    def __init__(
        self,
        caption_loss_weight: float,
        clip_loss_weight: float,
        pad_id: int = 0,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        use_horovod: bool = False,
        tile_rows: int | None = None,
    ) -> None:
        super().__init__(local_loss, gather_with_grad, cache_labels, rank, world_size, use_horovod, tile_rows)
        self.caption_loss_weight = caption_loss_weight
        self.clip_loss_weight = clip_loss_weight
        self.pad_id = pad_id

    def forward(  # type: ignore[override]
        self,
        image_features: Tensor,
        text_features: Tensor,
        logits: Tensor,
        labels: Tensor,
        logit_scale: Tensor,
        output_dict: bool = False,
        logit_bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor] | dict[str, Tensor]:
        """Return (contrastive, caption) of features [B, E], logits [B, L, V] and ids [B, L], each already weighted.

        With a contrastive weight of zero the features are not scored. The caption loss is the mean over this rank's
        tokens that are not ``pad_id``.
        """
        contrastive = torch.zeros((), device=logits.device)
        if self.clip_loss_weight:
            pairs = self.pair_loss(image_features, text_features, logit_scale, logit_bias)
            contrastive = self.clip_loss_weight * pairs
        # Classes last and rows flattened: the layout that cross entropy reads without a copy of the logits.
        caption = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=self.pad_id)
        caption = self.caption_loss_weight * caption
        if output_dict:
            return {"contrastive_loss": contrastive, "caption_loss": caption}
        return contrastive, caption
