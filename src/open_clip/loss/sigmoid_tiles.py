"""The sigmoid loss of a block of pairs without the matrix of scores: tile by tile, gradients in the same pass.

A sum over scores has each score's gradient at hand as soon as the score is, so nothing is computed twice: three matrix
products, as with autograd, in memory O(B x tile). Which blocks there are and what they count is ``SigLipLoss``'s.

Shapes: B rows of this rank, E embedding width.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from open_clip.loss.products import Tile, accumulate, multiply, product_type, sum_type, tiles, without_autocast
from open_clip.loss.tiles import refuse_second_derivatives


class _Call(NamedTuple):
    """What the loss is told beside its tensors."""

    tile_rows: int
    dtype: torch.dtype
    has_pairs: bool
    # Gradients are made along with the loss, so they must be known to be wanted by then.
    wanted: bool


class _Sums(NamedTuple):
    """What one pass over a block gives.

    Attributes:
        loss: Sum of the losses of all scores, [].
        of_rows: Gradients of the scores times texts, [B, E]; None when no gradient is wanted.
        of_columns: Gradients of the scores times scaled images, [B, E]; likewise.
        of_scores: Sum of the gradients of the scores, [].
    """

    loss: Tensor
    of_rows: Tensor | None
    of_columns: Tensor | None
    of_scores: Tensor | None


def block_loss(
    images: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor | None,
    *,
    tile_rows: int,
    has_pairs: bool,
) -> Tensor:
    """Sum the losses of images [B, E] against texts [B, E] that are answered no, but for row i's with ``has_pairs``.

    The sum is fp32, fp64 for fp64 features.
    """
    bias = torch.zeros_like(logit_scale) if logit_bias is None else logit_bias
    given = (images, texts, logit_scale, bias)
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    total: Tensor = _TiledSum.apply(*given, _Call(tile_rows, product_type(images, texts), has_pairs, wanted))
    return total


class _TiledSum(torch.autograd.Function):
    """Images [B, E], texts [B, E], scale and bias, scalars: a scalar."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, call: _Call) -> Tensor:
        with without_autocast(images.device.type):
            sums = _sum_up(images, texts, scale, bias, call)
        ctx.save_for_backward(images, scale, bias, *sums[1:])
        ctx.text_type = texts.dtype
        return sums.loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        images, scale, bias, of_rows, of_columns, of_scores = ctx.saved_tensors
        wants_images, wants_texts, wants_scale, wants_bias, _ = ctx.needs_input_grad
        with without_autocast(images.device.type):
            return (
                (of_rows * (upstream * scale)).to(images.dtype) if wants_images else None,
                (of_columns * upstream).to(ctx.text_type) if wants_texts else None,
                ((of_rows * images).sum() * upstream).reshape(scale.shape).to(scale) if wants_scale else None,
                (of_scores * upstream).reshape(bias.shape).to(bias) if wants_bias else None,
                None,
            )


def _sum_up(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, call: _Call) -> _Sums:
    wide, device = sum_type(call.dtype), images.device
    scaled, texts = (images.to(wide) * scale.to(wide)).to(call.dtype), texts.to(call.dtype)
    losses = torch.zeros(len(images), dtype=wide, device=device)
    if not call.wanted:
        for tile in tiles(len(images), len(texts), call.tile_rows, scaled):
            _score(tile, scaled, texts, bias, call)
            losses[tile.rows] += _softplus_sums(tile)
        return _Sums(losses.sum(), None, None, None)
    of_rows, of_columns = (torch.zeros(part.shape, dtype=wide, device=device) for part in (scaled, texts))
    of_scores = torch.zeros(len(images), dtype=wide, device=device)
    for tile in tiles(len(images), len(texts), call.tile_rows, scaled):
        pairs = _score(tile, scaled, texts, bias, call)
        losses[tile.rows] += _softplus_sums(tile)
        gradients = tile.scores.sigmoid_()
        if call.has_pairs:
            pairs.neg_()
        of_scores[tile.rows] += gradients.sum(1)
        accumulate(of_rows[tile.rows], gradients, texts[tile.columns])
        accumulate(of_columns[tile.columns], gradients.T, scaled[tile.rows])
    return _Sums(losses.sum(), of_rows, of_columns, of_scores.sum())


def _score(tile: Tile, scaled: Tensor, texts: Tensor, bias: Tensor, call: _Call) -> Tensor:
    """Fill in a tile's scores, those of pairs with the opposite sign, and return a view of the latter."""
    multiply(scaled[tile.rows], texts[tile.columns].T, out=tile.scores)
    tile.scores.add_(bias)
    pairs, _ = tile.pairs(0)
    if call.has_pairs:
        # A yes costs softplus(-z) where a no costs softplus(z).
        pairs.neg_()
    return pairs


def _softplus_sums(tile: Tile) -> Tensor:
    """Sum log(1 + exp(score)) of each row of a tile, whose scratch is overwritten."""
    scores, scratch = tile.scores, tile.scratch
    if scores.device.type != "cpu":
        # Past the threshold it is the score itself, to the last bit of every type.
        return F.softplus(scores, threshold=40).sum(1)
    # A processor's log1p takes as long as a matrix product: 9 ns a score, where this takes 3. With v = 1 + u rounded,
    # log(1 + u) = log(v) + log(1 + (u - (v - 1)) / v), and the second logarithm is of a number within rounding of 1.
    sums = torch.clamp(scores, min=0, out=scratch).sum(1)
    u = torch.abs(scores, out=scratch).neg_().exp_()
    v = u + 1
    # Taking 1 from v and giving it back is exact; taking v from u before would lose u.
    rest = u.sub_(v.sub_(1)).div_(v.add_(1))
    return sums.add_(v.log_().add_(rest).sum(1))
