"""Matrix products of features that are summed in fp32 whatever type they come in, and the buffers they are put into.

Autocast multiplies in a half type and gives the scores in it: at a scale of 100 bfloat16 rounds them to quarters and
halves. Here factors are rounded as autocast rounds them, but the scores are not, where torch can put products of half
types into fp32 (``out_dtype`` of ``torch.mm``). Elsewhere the factors are not rounded either and multiplied in fp32,
which is slower and more exact.
"""

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

_HALVES = (torch.float16, torch.bfloat16)
# Square tiles stay in a processor's cache; an accelerator is better off with few and large ones.
_HOST_COLUMNS, _DEVICE_COLUMNS = 1024, 32768


class Tile(NamedTuple):
    """A part of a matrix of scores, with buffers of its shape that the next tile overwrites."""

    rows: slice
    columns: slice
    scores: Tensor
    scratch: Tensor
    spare: Tensor | None = None

    def pairs(self, first: int) -> tuple[Tensor, slice]:
        """Return the scores of rows with their own columns, as a view, and which rows these are.

        Row i of the matrix belongs to column first + i.
        """
        offset = first + self.rows.start - self.columns.start
        diagonal = self.scores.diagonal(offset)
        start = self.rows.start + max(-offset, 0)
        return diagonal, slice(start, start + len(diagonal))


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[None]:
    """Open a context in which products are made in the types of their factors."""
    if not torch.amp.is_autocast_available(device_type):
        return contextlib.nullcontext()
    return torch.autocast(device_type, enabled=False)


@cache
def _widens(device_type: str, dtype: torch.dtype) -> bool:
    """Say whether a device multiplies this type into fp32; asked by trying, as no release tells."""
    factor = torch.ones(16, 16, dtype=dtype, device=device_type)
    try:
        torch.mm(factor, factor, out_dtype=torch.float32, out=torch.empty(16, 16, device=device_type))
    except (TypeError, RuntimeError):
        return False
    return True


def product_type(*features: Tensor) -> torch.dtype:
    """Return the type that features are multiplied in: autocast's or their own, if its sums can be fp32; else fp32."""
    dtype = features[0].dtype
    for other in features[1:]:
        dtype = torch.promote_types(dtype, other.dtype)
    if dtype is torch.float64:
        return dtype
    kind = features[0].device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    with without_autocast(kind):
        return dtype if dtype in _HALVES and _widens(kind, dtype) else torch.float32


def sum_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type that products in ``dtype`` are summed in."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def even_part(count: int, limit: int) -> int:
    """Return the size of parts to cut ``count`` into: the largest one up to the limit that leaves no smaller rest.

    So all tiles have one shape, which matters where each new one is compiled. If nothing down to half of the limit
    divides the count, it is the limit, and the last part is smaller: two shapes, the same ones at every step.
    """
    if count <= limit:
        return count
    return next((size for size in range(limit, limit // 2, -1) if count % size == 0), limit)


def tiles(num_rows: int, num_columns: int, tile_rows: int, like: Tensor, *, has_spare: bool = False) -> Iterator[Tile]:
    """Cut a matrix into tiles, row by row, for features such as ``like``."""
    limit = _HOST_COLUMNS if like.device.type == "cpu" else _DEVICE_COLUMNS
    height, width = even_part(num_rows, tile_rows), even_part(num_columns, limit)
    buffers = [
        torch.empty(height * width, dtype=sum_type(like.dtype), device=like.device)
        for _ in range(3 if has_spare else 2)
    ]
    for top in range(0, num_rows, height):
        rows = slice(top, min(top + height, num_rows))
        for left in range(0, num_columns, width):
            columns = slice(left, min(left + width, num_columns))
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            yield Tile(rows, columns, *(buffer[: shape[0] * shape[1]].view(shape) for buffer in buffers))


def multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write the product of two matrices into ``out``."""
    if left.dtype is out.dtype:
        torch.mm(left, right, out=out)
    else:
        torch.mm(left, right, out_dtype=out.dtype, out=out)


def accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add the product of two matrices to ``total``; the left one is rounded to the type of the right one."""
    if right.dtype is total.dtype:
        total.addmm_(left, right)
    else:
        total.add_(torch.mm(left.to(right.dtype), right, out_dtype=total.dtype))
