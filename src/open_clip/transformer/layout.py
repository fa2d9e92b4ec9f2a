"""Which tokens of a batch of texts are computed, planned on the host. Computing them is ``text_rows.py``'s job.

A causal tower that is read at the end-of-text token never uses what stands behind that token.
Shapes: B texts, R computed rows (B and perhaps dummies), T tokens of all texts together.
"""

from itertools import product
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from open_clip.errors import ConfigError

TextShapes: TypeAlias = Literal["packed", "bucketed", "padded"]

# Row lengths of the bucketed form; the tower's context length is the last.
_SHORT_LENGTHS = (16, 32, 48)
# What starting one more run costs, in tokens computed.
_TOKENS_PER_RUN = 256


class TextLayout(NamedTuple):
    """How the texts of a batch are computed without their padding; made by ``plan_texts``.

    Attributes:
        shapes: (rows, length) of what is computed, one after the other, shortest first.
        is_packed: tokens form one stream, text after text; otherwise each of ``shapes`` is a run of its own.
        context_length: Positions that a text has with its padding.
        rows: int64 [R], the text that each row holds; dummy rows repeat one of them.
        slots: int64 [R], where the row's result belongs; B for a dummy, whose result is dropped.
        order: int64 [B], the row that holds each text.
        ends: int64 [R], where the end-of-text token stands: in the stream, or in its row.
        token_rows: int64 [T], the text of each token of the stream; empty when not packed.
        positions: int64 [T], the token's position in its text; empty when not packed.
        offsets: int32 [R + 1], where each text begins in the stream, and the stream's end; empty when not packed.
    """

    shapes: tuple[tuple[int, int], ...]
    is_packed: bool
    context_length: int
    rows: Tensor
    slots: Tensor
    order: Tensor
    ends: Tensor
    token_rows: Tensor
    positions: Tensor
    offsets: Tensor

    @property
    def num_texts(self) -> int:
        """Number of texts planned for."""
        return self.order.shape[0]

    @property
    def longest(self) -> int:
        """Length of the longest row."""
        return max(length for _, length in self.shapes)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TextLayout":
        """Return the same plan with its tensors on ``device``."""
        moved = (x.to(device, non_blocking=non_blocking) if isinstance(x, Tensor) else x for x in self)
        return TextLayout(*moved)  # type: ignore[arg-type]

    def pin_memory(self) -> "TextLayout":
        """Return the same plan with its tensors in pinned memory."""
        return TextLayout(*(x.pin_memory() if isinstance(x, Tensor) else x for x in self))  # type: ignore[arg-type]


def plan_texts(
    lengths: Tensor, *, shapes: TextShapes, context_length: int, batch_size: int | None = None
) -> TextLayout | None:
    """Plan how texts of these lengths are computed.

    Args:
        lengths: int64 [B] on the host, tokens up to and with the end-of-text token.
        shapes: 'packed' computes exactly the tokens there are; 'bucketed' computes rows of 16, 32, 48 and
            ``context_length`` tokens, in runs whose number of rows depends on ``batch_size`` alone, for devices that
            compile every new shape; 'padded' computes everything.
        context_length: the tower's number of positions.
        batch_size: number of texts that batches usually have, where this one may be a last, smaller one; B by default.

    Returns:
        The plan, on the host, or None when the texts are to be computed as they are.

    Raises:
        ConfigError: a length is not in 1 ... ``context_length``, or ``shapes`` is none of the three.
    """
    if shapes not in ("packed", "bucketed", "padded"):
        raise ConfigError(f"text shapes are {shapes!r}; they can be packed, bucketed or padded.")
    if shapes == "padded" or lengths.numel() == 0:
        return None
    lengths = lengths.to(torch.int64)
    ordered, rows = lengths.sort(stable=True)
    if int(ordered[0]) < 1 or int(ordered[-1]) > context_length:
        raise ConfigError(
            f"texts have {int(ordered[0])} to {int(ordered[-1])} tokens; "
            f"each needs at least 1 and at most the context length, {context_length}."
        )
    if shapes == "packed":
        return _pack(ordered, rows, context_length)
    return _fill_buckets(ordered, rows, context_length, batch_size or len(lengths))


def _invert(rows: Tensor, places: Tensor) -> Tensor:
    return torch.empty_like(rows).scatter_(0, rows, places)


def _pack(ordered: Tensor, rows: Tensor, context_length: int) -> TextLayout:
    values, counts = torch.unique_consecutive(ordered, return_counts=True)
    stops = ordered.cumsum(0)
    starts = stops - ordered
    positions = torch.arange(int(stops[-1])) - starts.repeat_interleave(ordered)
    return TextLayout(
        shapes=tuple(zip(counts.tolist(), values.tolist(), strict=True)),
        is_packed=True,
        context_length=context_length,
        rows=rows,
        slots=rows,
        order=_invert(rows, torch.arange(len(rows))),
        ends=stops - 1,
        token_rows=rows.repeat_interleave(ordered),
        positions=positions,
        offsets=torch.cat([stops.new_zeros(1), stops]).to(torch.int32),
    )


def _round_up(number: float, multiple: int) -> int:
    return -int(-number // multiple) * multiple


def bucket_shapes(context_length: int, batch_size: int) -> list[tuple[int, int]]:
    """List the at most four (rows, length) that bucketed texts are computed in, shortest first.

    All hold about as many tokens as a quarter of the batch in rows of 16, and row counts are rounded up.
    """
    lengths = [length for length in _SHORT_LENGTHS if length < context_length] + [context_length]
    multiple = min(64, max(8, 1 << (batch_size // 16).bit_length() - 1)) if batch_size >= 16 else 8
    budget = batch_size / 4 * lengths[0]
    return [(min(batch_size, _round_up(budget / length, multiple)), length) for length in lengths]


def _count_runs(waiting: list[int], shapes: list[tuple[int, int]]) -> list[int]:
    """Choose how often each shape is run, given how many rows wait for each bucket.

    What a bucket's last run leaves over either fills a run of its own or moves up to the longer rows; the cheapest of
    all choices is taken.
    """
    best: list[int] = []
    least = float("inf")
    for choices in product((False, True), repeat=len(shapes) - 1):
        counts, moved, cost = [], 0, 0
        for (rows, length), number, moves_up in zip(shapes, waiting, (*choices, False), strict=True):
            full, rest = divmod(number + moved, rows)
            moved = rest if moves_up else 0
            counts.append(full + (rest > 0 and not moves_up))
            cost += counts[-1] * (rows * length + _TOKENS_PER_RUN)
        if cost < least:
            best, least = counts, cost
    return best


def _fill_buckets(ordered: Tensor, rows: Tensor, context_length: int, batch_size: int) -> TextLayout:
    shapes = bucket_shapes(context_length, batch_size)
    limits = torch.tensor([length for _, length in shapes])
    waiting = torch.bincount(torch.searchsorted(limits, ordered), minlength=len(shapes)).tolist()
    num_texts = len(ordered)
    runs: list[tuple[int, int]] = []
    held: list[Tensor] = []
    done = reachable = 0
    for shape, count, number in zip(shapes, _count_runs(waiting, shapes), waiting, strict=True):
        reachable += number
        for _ in range(count):
            taken = min(shape[0], reachable - done)
            dummies = torch.full((shape[0] - taken,), num_texts)
            held.append(torch.cat([torch.arange(done, done + taken), dummies]))
            runs.append(shape)
            done += taken
    assert done == num_texts
    places = torch.cat(held)
    is_dummy = places == num_texts
    kept = (~is_dummy).nonzero()[:, 0]
    sources = places.masked_fill(is_dummy, 0)
    none = torch.empty(0, dtype=torch.int64)
    return TextLayout(
        shapes=tuple(runs),
        is_packed=False,
        context_length=context_length,
        rows=rows[sources],
        slots=rows[sources].masked_fill(is_dummy, num_texts),
        order=_invert(rows[places[kept]], kept),
        ends=(ordered[sources] - 1).masked_fill(is_dummy, 0),
        token_rows=none,
        positions=none,
        offsets=none.to(torch.int32),
    )


def can_skip_padding(model: nn.Module) -> bool:
    """Tell whether a model's text tower gives the same without the padding, so that ``Texts`` may have a layout.

    True for a native tower that is causal and read at its end-of-text token, without an appended class token, without
    token outputs, and without hooks that a program has put on it to see all positions.
    """
    for wrapping in ("module", "_orig_mod"):
        inner = getattr(model, wrapping, None)
        if isinstance(inner, nn.Module):
            return can_skip_padding(inner)
    answer = getattr(model, "can_skip_padding", None)
    return callable(answer) and bool(answer())
