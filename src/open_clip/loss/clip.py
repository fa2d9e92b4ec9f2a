"""CLIP's contrastive loss on one or many ranks. Encoding is the model's job, weighting of losses the task's.

Shapes: B rows of this rank, W ranks, E embedding width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.errors import ConfigError
from open_clip.loss.gather import gather_features


class ClipLoss(nn.Module):
    """Symmetric cross entropy between images and texts, pair i against all pairs.

    Source: open_clip.loss.ClipLoss (3.3.0); arXiv 2103.00020, figure 3.
    """

    def __init__(
        self,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        use_horovod: bool = False,
    ) -> None:
        super().__init__()
        if use_horovod:
            raise ConfigError("use_horovod: Horovod is not supported; start the ranks with torchrun instead.")
        self.local_loss = local_loss
        self.gather_with_grad = gather_with_grad
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.prev_num_logits = 0
        self.labels: dict[torch.device, Tensor] = {}

    def get_ground_truth(self, device: torch.device, num_logits: int) -> Tensor:
        """Return the column of each row's own pair, int64 [num_logits]; kept per device with ``cache_labels``."""
        if self.cache_labels and self.prev_num_logits == num_logits and device in self.labels:
            return self.labels[device]
        labels = torch.arange(num_logits, device=device, dtype=torch.long)
        if self.world_size > 1 and self.local_loss:
            labels = labels + num_logits * self.rank
        if self.cache_labels:
            if self.prev_num_logits != num_logits:
                self.labels.clear()
            self.labels[device] = labels
            self.prev_num_logits = num_logits
        return labels

    def get_logits(
        self, image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Score images [B, E] against texts and texts against images.

        Returns:
            Two matrices: [B, B] on one rank, [B, W*B] with ``local_loss``, else [W*B, W*B].
        """
        if self.world_size == 1:
            per_image = logit_scale * image_features @ text_features.T
            per_text = logit_scale * text_features @ image_features.T
        else:
            all_images, all_texts = gather_features(
                image_features, text_features, self.local_loss, self.gather_with_grad, self.rank, self.world_size
            )
            if self.local_loss:
                per_image = logit_scale * image_features @ all_texts.T
                per_text = logit_scale * text_features @ all_images.T
            else:
                per_image = logit_scale * all_images @ all_texts.T
                per_text = per_image.T
        if logit_bias is not None:
            per_image, per_text = per_image + logit_bias, per_text + logit_bias
        return per_image, per_text

    def contrastive_loss(self, per_image: Tensor, per_text: Tensor) -> Tensor:
        """Average the cross entropies of both directions."""
        labels = self.get_ground_truth(per_image.device, per_image.shape[0])
        return (F.cross_entropy(per_image, labels) + F.cross_entropy(per_text, labels)) / 2

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """Return the loss of normalised features [B, E], as a scalar or as ``{"contrastive_loss": scalar}``."""
        loss = self.contrastive_loss(*self.get_logits(image_features, text_features, logit_scale, logit_bias))
        return {"contrastive_loss": loss} if output_dict else loss
