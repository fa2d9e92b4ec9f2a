"""CLIP's contrastive loss on one or many ranks. Encoding is the model's job, weighting of losses the task's.

Shapes: B rows of this rank, W ranks, E embedding width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.errors import ConfigError
from open_clip.loss.gather import gather_features, gather_rows
from open_clip.loss.tiles import Shares, paired_loss, row_loss

# Below it autograd is faster, with three matrix products where tiles take four, and 64 MiB are no burden.
TILED_FROM = 2048
# Rows of a tile: fewer multiply slower, more take memory and gain nothing.
TILE_ROWS = 1024


def choose_tile_rows(tile_rows: int | None, num_rows: int) -> int:
    """Return the rows of a tile for a square of scores of this many rows, 0 for none; None chooses by the size.

    Raises:
        ConfigError: the number is negative.
    """
    if tile_rows is None:
        return TILE_ROWS if num_rows >= TILED_FROM else 0
    if tile_rows < 0:
        raise ConfigError(f"tile_rows is {tile_rows}; it must be 0 (no tiles), a number of rows, or None to choose.")
    return tile_rows


class ClipLoss(nn.Module):
    """Symmetric cross entropy between images and texts, pair i against all pairs.

    From 2,048 rows on, those of all ranks together, the scores never lie in memory whole: they are made tile by tile,
    and again for the gradients, and each rank scores its own images only. ``tile_rows`` sets the rows of a tile; 0
    never cuts up, which second derivatives need. A subclass with scores or labels of its own is never cut up.

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
        tile_rows: int | None = None,
    ) -> None:
        super().__init__()
        if use_horovod:
            raise ConfigError("use_horovod: Horovod is not supported; start the ranks with torchrun instead.")
        self.local_loss = local_loss
        self.gather_with_grad = gather_with_grad
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        choose_tile_rows(tile_rows, 0)
        self.tile_rows = tile_rows
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
            # A product of its own, as upstream has it: its gradients are rounded in the same places.
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

    def pair_loss(
        self, image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor | None = None
    ) -> Tensor:
        """Return the contrastive loss of normalised features [B, E], by tiles where that is due."""
        tile_rows = self._tile_rows(len(image_features))
        if not tile_rows:
            return self.contrastive_loss(*self.get_logits(image_features, text_features, logit_scale, logit_bias))
        scale = torch.as_tensor(logit_scale)
        if self._is_one_way():
            first = self.rank * len(image_features)
            loss = row_loss(
                image_features, gather_rows(text_features, self.world_size), scale, first, tile_rows=tile_rows
            )
            loss = loss + row_loss(
                text_features, gather_rows(image_features, self.world_size), scale, first, tile_rows=tile_rows
            )
            loss = loss / 2
        else:
            loss = paired_loss(image_features, text_features, scale, tile_rows=tile_rows, shares=self._shares())
        # A bias moves all scores alike: it has no gradient, but is part of the graph as it is without tiles.
        return loss if logit_bias is None else loss + 0.0 * logit_bias.sum()

    def _tile_rows(self, num_rows: int) -> int:
        """Return the rows of a tile for this many of the rank's own; 0 where the scores must be made whole."""
        names = ("get_logits", "get_ground_truth", "contrastive_loss")
        if any(getattr(type(self), name) is not getattr(ClipLoss, name) for name in names):
            return 0
        return choose_tile_rows(self.tile_rows, self.world_size * num_rows)

    def _is_one_way(self) -> bool:
        """Tell whether a rank's features get no gradient from other ranks' scores of them, nor from their columns."""
        return self.world_size > 1 and self.local_loss and not self.gather_with_grad

    def _shares(self) -> Shares:
        return Shares(self.rank, self.world_size, self.local_loss, self.gather_with_grad)

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """Return the loss of normalised features [B, E], as a scalar or as ``{"contrastive_loss": scalar}``."""
        loss = self.pair_loss(image_features, text_features, logit_scale, logit_bias)
        return {"contrastive_loss": loss} if output_dict else loss
