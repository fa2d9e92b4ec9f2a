"""CLIP's loss without the matrix of scores: tile by tile, and again tile by tile for the gradients.

The forward pass keeps maximum and sum of each row and column, the backward pass makes each tile anew and takes
both gradients from it: memory O(B x tile), four matrix products where autograd on two matrices takes six. Ranks share
the global matrix: each has its own images as rows against all texts, and what they tell each other of the columns are
their maxima and sums. Which losses are computed so is ``ClipLoss``'s choice.

Shapes: B rows of this rank, W ranks, N columns (W*B), E embedding width.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from open_clip.loss.gather import gather_rows, scatter_sums
from open_clip.loss.products import accumulate, multiply, product_type, sum_type, tiles, without_autocast


class Shares(NamedTuple):
    """How one matrix of scores is spread over ranks.

    Attributes:
        rank: Place of this rank.
        world_size: Number of ranks, each with as many rows.
        local: The value is that of this rank's pairs, and not the mean over all ranks'. Gradients are the same.
        gathered_gradient: A rank's rows get what all ranks send back, W times the gradient of the mean, which DDP's
            average makes whole; otherwise they get the gradient of the mean.
    """

    rank: int = 0
    world_size: int = 1
    local: bool = False
    gathered_gradient: bool = True


class _Call(NamedTuple):
    """What the loss is told beside its tensors."""

    tile_rows: int
    dtype: torch.dtype
    shares: Shares
    # Only the rows have a cross entropy, against columns as they come.
    one_way: bool
    # The column that belongs to row 0.
    first: int


class ExpSums:
    """Running maximum and sum of exponentials along one side of a matrix that is seen tile by tile.

    The two are never put into one logarithm: at a scale of 100 its rounding would show in the gradients.
    """

    def __init__(self, count: int, dim: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (count, 1) if dim == 1 else (1, count)
        self.dim = dim
        self.peak = torch.full(shape, -torch.inf, dtype=dtype, device=device)
        self.total = torch.zeros(shape, dtype=dtype, device=device)

    def see(self, scores: Tensor, scratch: Tensor, start: int) -> None:
        """Add a tile whose first row (or column, by ``dim``) is ``start``; ``scratch`` of its shape is overwritten."""
        count = scores.shape[1 - self.dim]
        peak, total = (part.narrow(1 - self.dim, start, count) for part in (self.peak, self.total))
        # What was summed below the old maximum is scaled to the new one, so that no exponential ever exceeds 1.
        highest = torch.maximum(peak, scores.amax(self.dim, keepdim=True))
        torch.sub(scores, highest, out=scratch).exp_()
        total.mul_(peak.sub_(highest).exp_()).add_(scratch.sum(self.dim, keepdim=True))
        peak.copy_(highest)

    def share(self) -> None:
        """Put the ranks' parts together."""
        highest = self.peak.clone()
        dist.all_reduce(highest, dist.ReduceOp.MAX)
        self.total.mul_(self.peak.sub_(highest).exp_())
        dist.all_reduce(self.total)
        self.peak = highest

    def excess(self, scores: Tensor, start: int) -> Tensor:
        """Return by how much the log-sum-exps from ``start`` on are above scores [B]: [B]."""
        peak, total = (part.flatten()[start : start + len(scores)] for part in (self.peak, self.total))
        return (peak - scores) + total.log()


def paired_loss(
    images: Tensor, texts: Tensor, logit_scale: Tensor, *, tile_rows: int, shares: Shares | None = None
) -> Tensor:
    """Average the cross entropies of images [B, E] against texts [B, E] and back, row i's pair being row i.

    With several ranks the rows of all of them score each other, and all ranks must weigh the loss alike. A bias common
    to all scores would change nothing and is not asked for. The loss is fp32, fp64 for fp64 features.
    """
    shares = shares or Shares()
    call = _Call(tile_rows, product_type(images, texts), shares, one_way=False, first=shares.rank * len(images))
    loss: Tensor = _TiledLoss.apply(images, texts, logit_scale, call)
    return loss


def row_loss(rows: Tensor, columns: Tensor, logit_scale: Tensor, first: int, *, tile_rows: int) -> Tensor:
    """Average the cross entropies of rows [B, E] against columns [N, E], where row i belongs to column first + i."""
    call = _Call(tile_rows, product_type(rows, columns), Shares(), one_way=True, first=first)
    loss: Tensor = _TiledLoss.apply(rows, columns, logit_scale, call)
    return loss


def refuse_second_derivatives() -> None:
    """Fail in a backward pass that is to be differentiated itself, where torch would take it for a constant.

    Raises:
        RuntimeError: it is.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "a loss that is computed by tiles can be differentiated once; for second derivatives give the loss "
            "tile_rows=0 (chunk_size=0 for the sigmoid loss)."
        )


class _TiledLoss(torch.autograd.Function):
    """Rows [B, E] against columns, [B, E] of each rank or (one way) [N, E], with a scale: a scalar."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, scale: Tensor, call: _Call) -> Tensor:
        shares = call.shares
        ctx.call, ctx.column_type = call, columns.dtype
        with without_autocast(rows.device.type):
            columns = columns.to(call.dtype)
            if shares.world_size > 1:
                columns = gather_rows(columns, shares.world_size)
            scaled = scale_rows(rows, scale, call.dtype)
            of_rows, of_columns, pairs = _exp_sums(scaled, columns, call)
            # The unscaled rows are kept: scaled ones are made again, and the gradient of the scale needs these.
            ctx.save_for_backward(
                rows, columns, scale, of_rows.peak, 1 / of_rows.total, of_columns.peak, 1 / of_columns.total
            )
            loss = of_rows.excess(pairs, 0).mean()
            if not call.one_way:
                loss = (loss + of_columns.excess(pairs, call.first).mean()) / 2
            if shares.world_size > 1 and not shares.local:
                dist.all_reduce(loss)
                loss /= shares.world_size
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        refuse_second_derivatives()
        call: _Call = ctx.call
        rows, columns, scale, *sums = ctx.saved_tensors
        wants_rows, wants_columns, wants_scale, _ = ctx.needs_input_grad
        with without_autocast(rows.device.type):
            scaled = scale_rows(rows, scale, call.dtype)
            sums = _gradients(scaled, columns, sums, call, (wants_rows or wants_scale, wants_columns))
            factor = upstream / (len(rows) * (1 if call.one_way else 2))
            return (*spread_gradients(rows, scale, sums, factor, call.shares, ctx), None)


def scale_rows(rows: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Return rows [B, E] times the scale, in the type they are multiplied in."""
    wide = sum_type(dtype)
    return (rows.to(wide) * scale.to(wide)).to(dtype)


def spread_gradients(
    rows: Tensor, scale: Tensor, sums: tuple[Tensor | None, Tensor | None], factor: Tensor, shares: Shares, ctx: Any
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Make the gradients of rows, columns and scale from this rank's sums over scores, [B, E] and [N, E].

    Args:
        factor: What a score of this rank's pairs counts in the loss.
        ctx: Says which of the three are wanted, and by ``column_type`` the type of the columns' gradient.
    """
    of_rows, of_columns = sums
    wants_rows, _, wants_scale, *_ = ctx.needs_input_grad
    row_grad = column_grad = scale_grad = None
    # All scores of all ranks count alike in the mean over ranks.
    share = factor / shares.world_size
    if not shares.gathered_gradient:
        factor = share
    if of_rows is not None and wants_scale:
        whole = (of_rows * rows).sum()
        if shares.world_size > 1:
            dist.all_reduce(whole)
        scale_grad = (whole * share).reshape(scale.shape).to(scale)
    if of_rows is not None and wants_rows:
        row_grad = of_rows.mul_(factor * scale).to(rows.dtype)
    if of_columns is not None:
        if shares.world_size > 1:
            # Each rank scored all columns with its own rows: a column's owner gets the sum of what they found.
            of_columns = scatter_sums(of_columns, shares.world_size)
        column_grad = of_columns.mul_(factor).to(ctx.column_type)
    return row_grad, column_grad, scale_grad


def _exp_sums(scaled: Tensor, columns: Tensor, call: _Call) -> tuple[ExpSums, ExpSums, Tensor]:
    """Return the sums of rows and of columns (left alone when ``one_way``), and the scores of the pairs, [B]."""
    dtype, device = sum_type(call.dtype), scaled.device
    of_rows, of_columns = ExpSums(len(scaled), 1, dtype, device), ExpSums(len(columns), 0, dtype, device)
    pairs = torch.empty(len(scaled), dtype=dtype, device=device)
    for tile in tiles(len(scaled), len(columns), call.tile_rows, scaled):
        multiply(scaled[tile.rows], columns[tile.columns].T, out=tile.scores)
        diagonal, own = tile.pairs(call.first)
        pairs[own] = diagonal
        of_rows.see(tile.scores, tile.scratch, tile.rows.start)
        if not call.one_way:
            of_columns.see(tile.scores, tile.scratch, tile.columns.start)
    if call.shares.world_size > 1:
        of_columns.share()
    return of_rows, of_columns, pairs


def _gradients(
    scaled: Tensor, columns: Tensor, sums: list[Tensor], call: _Call, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return this rank's sums of the scores' gradients times columns, [B, E], and times scaled rows, [N, E].

    The gradient of a score is its share of its row, plus its share of its column, less one for each where it is a pair;
    what the mean divides by is left to the caller, so that a half type need not hold it.
    """
    of_rows, of_columns = (
        torch.zeros(part.shape, dtype=sum_type(call.dtype), device=part.device) if is_wanted else None
        for part, is_wanted in zip((scaled, columns), wanted, strict=True)
    )
    row_peak, row_part, column_peak, column_part = sums
    for tile in tiles(len(scaled), len(columns), call.tile_rows, scaled):
        x, y, shares = scaled[tile.rows], columns[tile.columns], tile.scores
        multiply(x, y.T, out=shares)
        if not call.one_way:
            torch.sub(shares, column_peak[:, tile.columns], out=tile.scratch).exp_()
        shares.sub_(row_peak[tile.rows]).exp_().mul_(row_part[tile.rows])
        if not call.one_way:
            shares.addcmul_(tile.scratch, column_part[:, tile.columns])
        tile.pairs(call.first)[0].sub_(1 if call.one_way else 2)
        if of_rows is not None:
            accumulate(of_rows[tile.rows], shares, y)
        if of_columns is not None:
            accumulate(of_columns[tile.columns], shares.T, x)
    return of_rows, of_columns
