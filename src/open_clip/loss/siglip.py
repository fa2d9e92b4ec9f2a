"""SigLIP's sigmoid loss on one or many ranks. The initial scale and bias are the trainer's choice.

Shapes: B rows of this rank, W ranks, E embedding width.
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.errors import ConfigError, suggest_nearest
from open_clip.loss.clip import choose_tile_rows
from open_clip.loss.neighbours import neighbour_exchange_bidir_with_grad, neighbour_exchange_with_grad
from open_clip.loss.sigmoid_tiles import block_loss

_DIST_IMPLS = ("bidir", "shift", "reduce", "gather")


def _score(image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor | None) -> Tensor:
    logits = logit_scale * image_features @ text_features.T
    return logits if logit_bias is None else logits + logit_bias


class SigLipLoss(nn.Module):
    """Every image against every text as a yes-or-no question: yes for its own text, no for all others.

    The ranks' texts travel as ``dist_impl`` says: 'bidir' (round the ring both ways, the default), 'shift' (one way),
    'reduce' (one rank's after the other's by all-reduce) or 'gather' (all at once, most memory); the loss is the same.
    From 2,048 rows on a rank the scores of a block never lie in memory whole: they are made and turned into gradients
    tile by tile. ``chunk_size`` sets the rows of a tile; 0 never cuts up, which second derivatives need.

    Source: open_clip.loss.SigLipLoss (3.3.0); arXiv 2303.15343.
    """

    def __init__(
        self,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        dist_impl: str | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.dist_impl = dist_impl or "bidir"
        self.chunk_size = chunk_size
        if self.dist_impl not in _DIST_IMPLS:
            raise ConfigError(
                f"dist_impl is {dist_impl!r}; it can be {', '.join(_DIST_IMPLS)}."
                f"{suggest_nearest(self.dist_impl, _DIST_IMPLS)}"
            )
        if chunk_size is not None and chunk_size < 0:
            raise ConfigError(
                f"chunk_size is {chunk_size}; it must be 0 (no chunks), a number of rows, or None to choose."
            )

    def get_ground_truth(
        self, device: torch.device, dtype: torch.dtype, num_logits: int, negative_only: bool = False
    ) -> Tensor:
        """Return the answers [num_logits, num_logits]: 1 on the diagonal unless ``negative_only``, -1 elsewhere."""
        labels = -torch.ones(num_logits, num_logits, device=device, dtype=dtype)
        return labels if negative_only else labels.fill_diagonal_(1)

    def get_logits(
        self, image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor | None = None
    ) -> Tensor:
        """Score images [B, E] against texts [B, E]: [B, B]."""
        return _score(image_features, text_features, logit_scale, logit_bias)

    def _block(
        self, images: Tensor, texts: Tensor, logit_scale: Tensor, logit_bias: Tensor | None, negative_only: bool = False
    ) -> Tensor:
        """Sum the loss of this rank's images against one rank's texts, divided by the number of images."""
        count = images.shape[0]
        tile_rows = choose_tile_rows(self.chunk_size, count)
        if not tile_rows:
            logits = _score(images, texts, logit_scale, logit_bias)
            labels = self.get_ground_truth(logits.device, logits.dtype, count, negative_only)
            return -F.logsigmoid(labels * logits).sum() / count
        scale = torch.as_tensor(logit_scale)
        bias = None if logit_bias is None else torch.as_tensor(logit_bias)
        return block_loss(images, texts, scale, bias, tile_rows=tile_rows, has_pairs=not negative_only) / count

    def _texts_of_others(self, texts: Tensor) -> Iterator[Tensor]:
        """Give the texts of each other rank; all ranks must go through all of them."""
        before, after = (self.rank - 1) % self.world_size, (self.rank + 1) % self.world_size
        if self.dist_impl == "shift":
            for _ in range(self.world_size - 1):
                texts = neighbour_exchange_with_grad(before, after, texts)
                yield texts
        elif self.dist_impl == "bidir":
            # Two ranks' texts a round; with an even number of ranks one is left, which either way would reach.
            forwards = backwards = texts
            for _ in range((self.world_size - 1) // 2):
                backwards, forwards = neighbour_exchange_bidir_with_grad(before, after, backwards, forwards)
                yield forwards
                yield backwards
            if self.world_size % 2 == 0:
                yield neighbour_exchange_with_grad(before, after, forwards)

    def _collective_blocks(
        self, images: Tensor, texts: Tensor, logit_scale: Tensor, logit_bias: Tensor | None
    ) -> Iterator[Tensor]:
        # Imported late: it drags in the rpc package, which single-process users need not pay for.
        from torch.distributed.nn.functional import all_gather, all_reduce

        gathered = None
        if self.dist_impl == "gather":
            gathered = all_gather(texts.contiguous())  # type: ignore[no-untyped-call]
        for other in range(self.world_size):
            if gathered is not None:
                received = gathered[other]
            else:
                received = all_reduce(texts * (other == self.rank), dist.ReduceOp.SUM)  # type: ignore[no-untyped-call]
            if other == self.rank:
                # Kept in the graph: the backward of the exchange is one too, and every rank must take part.
                yield 0.0 * received.sum()
            else:
                yield self._block(images, received, logit_scale, logit_bias, negative_only=True)

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """Return the loss of normalised features [B, E], as a scalar or as ``{"contrastive_loss": scalar}``.

        Averaged over ranks it is the loss of one rank that has all rows.
        """
        loss = self._block(image_features, text_features, logit_scale, logit_bias)
        if self.world_size > 1:
            if self.dist_impl in ("reduce", "gather"):
                for block in self._collective_blocks(image_features, text_features, logit_scale, logit_bias):
                    loss = loss + block
            else:
                for texts in self._texts_of_others(text_features):
                    loss = loss + self._block(image_features, texts, logit_scale, logit_bias, negative_only=True)
        return {"contrastive_loss": loss} if output_dict else loss
