"""CLIP's loss and a student's distillation, both from the same tiles of the student's and the teacher's scores.

As in ``tiles``, memory is O(B x tile) and ranks share the global matrix. When to do so is ``DistillClipLoss``'s choice.

Shapes: B rows of this rank, W ranks, N columns (W*B), E embedding width, which may differ for the teacher.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from open_clip.loss.gather import gather_rows
from open_clip.loss.products import Tile, accumulate, multiply, product_type, sum_type, tiles, without_autocast
from open_clip.loss.tiles import ExpSums, Shares, refuse_second_derivatives, scale_rows, spread_gradients

#: Image features, text features, scale.
Features = tuple[Tensor, Tensor, Tensor]


class _Call(NamedTuple):
    """What the losses are told beside their tensors."""

    tile_rows: int
    dtype: torch.dtype
    shares: Shares


class _WeightedSums(ExpSums):
    """Exponentials of a teacher's scores along one side, and with them the mean of the student's scores."""

    def __init__(self, count: int, dim: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(count, dim, dtype, device)
        self.weighted = torch.zeros_like(self.total)

    def see_both(self, teacher: Tensor, student: Tensor, scratch: Tensor, start: int) -> None:
        count = teacher.shape[1 - self.dim]
        peak, weighted = (part.narrow(1 - self.dim, start, count) for part in (self.peak, self.weighted))
        before = peak.clone()
        self.see(teacher, scratch, start)
        weighted.mul_(before.sub_(peak).exp_()).add_(scratch.mul_(student).sum(self.dim, keepdim=True))

    def share(self) -> None:
        before = self.peak.clone()
        super().share()
        self.weighted.mul_(before.sub_(self.peak).exp_())
        dist.all_reduce(self.weighted)

    def means(self, start: int, count: int) -> Tensor:
        """Return the means of the student's scores from ``start`` on, [count]."""
        return (self.weighted / self.total).flatten()[start : start + count]


def distillation_losses(
    student: Features, teacher: Features, *, tile_rows: int, shares: Shares
) -> tuple[Tensor, Tensor]:
    """Return a student's contrastive loss and its cross entropy against a teacher's scores, in both directions each.

    The teacher's features get no gradient. The losses are fp32, fp64 for fp64 features.
    """
    call = _Call(tile_rows, product_type(*student[:2], *teacher[:2]), shares)
    given = [torch.as_tensor(part) for part in (*student, *teacher)]
    contrastive, distilled = _TiledLosses.apply(*given, call)
    return contrastive, distilled


class _TiledLosses(torch.autograd.Function):
    """Images [B, E], texts [B, E] and scale of the student and of the teacher: two scalars."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        texts: Tensor,
        scale: Tensor,
        teacher_images: Tensor,
        teacher_texts: Tensor,
        teacher_scale: Tensor,
        call: _Call,
    ) -> tuple[Tensor, Tensor]:
        ctx.call, ctx.column_type = call, texts.dtype
        shares = call.shares
        with without_autocast(images.device.type):
            columns, guides = texts.to(call.dtype), teacher_texts.to(call.dtype)
            if shares.world_size > 1:
                columns, guides = gather_rows(columns, shares.world_size), gather_rows(guides, shares.world_size)
            scaled = scale_rows(images, scale, call.dtype)
            guiding = scale_rows(teacher_images, teacher_scale, call.dtype)
            of_student, of_teacher, pairs = _exp_sums((scaled, columns), (guiding, guides), call)
            kept = [part for sums in (*of_student, *of_teacher) for part in (sums.peak, 1 / sums.total)]
            ctx.save_for_backward(images, columns, scale, guiding, guides, *kept)
            first, count = shares.rank * len(images), len(images)
            own, others = of_student
            contrastive = own.excess(pairs, 0).mean() + others.excess(pairs, first).mean()
            distilled = own.excess(of_teacher[0].means(0, count), 0).mean()
            distilled = distilled + others.excess(of_teacher[1].means(first, count), first).mean()
            losses = torch.stack([contrastive, distilled]) / 2
            if shares.world_size > 1 and not shares.local:
                dist.all_reduce(losses)
                losses /= shares.world_size
        return losses[0].clone(), losses[1].clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        images, columns, scale, guiding, guides, *kept = ctx.saved_tensors
        wants_images, wants_texts, wants_scale, *_ = ctx.needs_input_grad
        with without_autocast(images.device.type):
            scaled = scale_rows(images, scale, ctx.call.dtype)
            wide = sum_type(ctx.call.dtype)
            weights = torch.stack([gradient.to(wide) for gradient in upstream])
            # Left to the end, so that a half type need not hold what a loss is scaled with.
            size = weights.abs().sum().clamp(min=torch.finfo(wide).tiny)
            wanted = (wants_images or wants_scale, wants_texts)
            sums = _gradients((scaled, columns), (guiding, guides), kept, weights / size, ctx.call, wanted)
            gradients = spread_gradients(images, scale, sums, size / (2 * len(images)), ctx.call.shares, ctx)
        return (*gradients, None, None, None, None)


def _exp_sums(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], call: _Call
) -> tuple[tuple[ExpSums, ExpSums], tuple[_WeightedSums, _WeightedSums], Tensor]:
    """Return the sums of the student's and the teacher's rows and columns, and the student's scores of pairs, [B]."""
    (scaled, columns), (guiding, guides) = student, teacher
    kind = (sum_type(call.dtype), scaled.device)
    of_student = ExpSums(len(scaled), 1, *kind), ExpSums(len(columns), 0, *kind)
    of_teacher = _WeightedSums(len(scaled), 1, *kind), _WeightedSums(len(columns), 0, *kind)
    pairs = torch.empty(len(scaled), dtype=kind[0], device=kind[1])
    for tile in tiles(len(scaled), len(columns), call.tile_rows, scaled, has_spare=True):
        assert tile.spare is not None
        multiply(scaled[tile.rows], columns[tile.columns].T, out=tile.scores)
        multiply(guiding[tile.rows], guides[tile.columns].T, out=tile.spare)
        diagonal, own = tile.pairs(call.shares.rank * len(scaled))
        pairs[own] = diagonal
        for side, start in enumerate((tile.rows.start, tile.columns.start)):
            of_student[side].see(tile.scores, tile.scratch, start)
            of_teacher[side].see_both(tile.spare, tile.scores, tile.scratch, start)
    if call.shares.world_size > 1:
        of_student[1].share()
        of_teacher[1].share()
    return of_student, of_teacher, pairs


def _gradients(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    kept: list[Tensor],
    weights: Tensor,
    call: _Call,
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Return this rank's sums of the scores' gradients times columns, [B, E], and times scaled rows, [N, E]."""
    (scaled, columns), (guiding, guides) = student, teacher
    of_rows, of_columns = (
        torch.zeros(part.shape, dtype=sum_type(call.dtype), device=part.device) if is_wanted else None
        for part, is_wanted in zip(student, wanted, strict=True)
    )
    contrastive, distilled = weights
    for tile in tiles(len(scaled), len(columns), call.tile_rows, scaled, has_spare=True):
        assert tile.spare is not None
        x, y, gradients = scaled[tile.rows], columns[tile.columns], tile.scores
        multiply(x, y.T, out=gradients)
        multiply(guiding[tile.rows], guides[tile.columns].T, out=tile.spare)
        _to_shares(gradients, tile, kept[:4])
        _to_shares(tile.spare, tile, kept[4:])
        gradients.mul_(contrastive + distilled)
        tile.pairs(call.shares.rank * len(scaled))[0].sub_(2 * contrastive)
        gradients.sub_(tile.spare.mul_(distilled))
        if of_rows is not None:
            accumulate(of_rows[tile.rows], gradients, y)
        if of_columns is not None:
            accumulate(of_columns[tile.columns], gradients.T, x)
    return of_rows, of_columns


def _to_shares(scores: Tensor, tile: Tile, kept: list[Tensor]) -> None:
    """Turn a tile's scores into their share of their row plus that of their column, in place."""
    row_peak, row_part, column_peak, column_part = kept
    torch.sub(scores, column_peak[:, tile.columns], out=tile.scratch).exp_()
    scores.sub_(row_peak[tile.rows]).exp_().mul_(row_part[tile.rows])
    scores.addcmul_(tile.scratch, column_part[:, tile.columns])
