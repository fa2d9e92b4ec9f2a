"""The attention kernels: torch's, and what was registered for a kind of device. No weights and no projections.

Shapes: B batch, L query positions, S key positions, H heads, K head width; R texts, T tokens of all texts together.
"""

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from open_clip.errors import first_line
from open_clip.transformer.layout import TextLayout

_LOGGER = logging.getLogger(__name__)


class AttentionKernel(Protocol):
    """What ``register_attention`` takes: attend from q [B, H, L, K] to k and v [B, H, S, K]."""

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        attn_mask: Tensor | None,
        is_causal: bool,
        dropout_p: float,
        scale: float | None,
    ) -> Tensor | None:
        """Return what torch's scaled_dot_product_attention would, or None to leave this call to it."""


# Numbers that a CPU's kernel adds up at once; a rest of fewer is added in another order. 16 is the widest there is.
_SUMMED_AT_ONCE = 16
_REGISTERED: dict[str, AttentionKernel] = {}
# Failures of the machine, which no other way of computing avoids.
_BROKEN = tuple(getattr(torch, name) for name in ("OutOfMemoryError", "AcceleratorError") if hasattr(torch, name))
# Ways to attend within texts that failed on a kind of device, so that they are not tried again.
_REFUSED: set[tuple[str, str]] = set()


def register_attention(device_type: str, kernel: AttentionKernel | None) -> None:
    """Use ``kernel`` for tensors of this kind of device, which stays nameless here; None goes back to torch's own.

    Where gradients are wanted, the kernel must give them.
    """
    if kernel is None:
        _REGISTERED.pop(device_type, None)
    else:
        _REGISTERED[device_type] = kernel


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attend from q [B, H, L, K] to k and v [B, H, S, K]; arguments as in torch's scaled_dot_product_attention."""
    kernel = _REGISTERED.get(q.device.type)
    if kernel is not None:
        attended = kernel(q, k, v, attn_mask=attn_mask, is_causal=is_causal, dropout_p=dropout_p, scale=scale)
        if attended is not None:
            return attended
    return F.scaled_dot_product_attention(q, k, v, attn_mask, dropout_p, is_causal, scale=scale)


def attend_texts(
    q: Tensor, k: Tensor, v: Tensor, layout: TextLayout, dropout_p: float = 0.0, scale: float | None = None
) -> Tensor:
    """Attend causally within each text of a packed layout.

    ``k`` and ``v`` [1, H, T, K] hold the texts one after the other. ``q`` is of that shape too, or it holds the last
    token of each text only, [1, H, R, K].
    """
    stream_q, stream_k, stream_v = (x[0].transpose(0, 1) for x in (q, k, v))
    for way in (*_fast_ways(q, dropout_p), _attend_in_rows):
        try:
            attended: Tensor = way(stream_q, stream_k, stream_v, layout, dropout_p, scale)
        except RuntimeError as error:
            if way is _attend_in_rows or isinstance(error, _BROKEN):
                raise
            reason = first_line(error)
            _LOGGER.warning("attention over packed texts: %s is not for this device: %s", way.__name__, reason)
            _REFUSED.add((q.device.type, way.__name__))
        else:
            break
    return attended.transpose(0, 1).unsqueeze(0)


def _fast_ways(q: Tensor, dropout_p: float) -> list[Callable[..., Tensor]]:
    """List the ways to try before the one that always works, which starts too many kernels for an accelerator."""
    if q.device.type == "cpu":
        return []
    ways: list[Callable[..., Tensor]] = []
    if q.dtype in (torch.float16, torch.bfloat16) and dropout_p == 0.0 and _find_varlen() is not None:
        ways.append(_attend_by_offsets)
    ways.append(_attend_nested)
    return [way for way in ways if (q.device.type, way.__name__) not in _REFUSED]


@functools.cache
def _find_varlen() -> Callable[..., Any] | None:
    """Find torch's attention over offsets; None where it is missing or does not take the arguments given here."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if {"window_size", "scale"} <= set(inspect.signature(varlen_attn).parameters) else None


def _asked_offsets(q: Tensor, k: Tensor, layout: TextLayout) -> tuple[Tensor, int, bool]:
    """Return where each text's queries begin, how many a text has at most, and whether causality limits them."""
    if q.shape[0] == k.shape[0]:
        return layout.offsets, layout.longest, True
    return torch.arange(q.shape[0] + 1, dtype=torch.int32, device=q.device), 1, False


def _attend_by_offsets(
    q: Tensor, k: Tensor, v: Tensor, layout: TextLayout, dropout_p: float, scale: float | None
) -> Tensor:
    """Attend in one kernel that reads where texts begin, [R + 1]; for half types."""
    varlen = _find_varlen()
    assert varlen is not None
    assert dropout_p == 0.0
    offsets, most, is_causal = _asked_offsets(q, k, layout)
    # (-1, 0): as far back as the text goes, and nothing of what follows.
    window = (-1, 0) if is_causal else (-1, -1)
    attended: Tensor = varlen(q, k, v, offsets, layout.offsets, most, layout.longest, scale=scale, window_size=window)
    return attended


def _attend_nested(
    q: Tensor, k: Tensor, v: Tensor, layout: TextLayout, dropout_p: float, scale: float | None
) -> Tensor:
    """Attend with nested tensors; the lengths are told, so that none is read back from the device."""
    offsets, most, is_causal = _asked_offsets(q, k, layout)
    shortest = layout.shapes[0][1]
    jagged = torch.nested.nested_tensor_from_jagged
    nested_q = jagged(q, offsets, min_seqlen=shortest if is_causal else most, max_seqlen=most)
    nested_k = jagged(k, layout.offsets, min_seqlen=shortest, max_seqlen=layout.longest)
    nested_v = jagged(v, layout.offsets, min_seqlen=shortest, max_seqlen=layout.longest)
    attended = F.scaled_dot_product_attention(
        nested_q.transpose(1, 2),
        nested_k.transpose(1, 2),
        nested_v.transpose(1, 2),
        dropout_p=dropout_p,
        is_causal=is_causal,
        scale=scale,
    )
    stream: Tensor = attended.transpose(1, 2).values()
    return stream


def _attend_in_rows(
    q: Tensor, k: Tensor, v: Tensor, layout: TextLayout, dropout_p: float, scale: float | None
) -> Tensor:
    """Put texts of about one length into rows of one length, and run the kernel once for each such length.

    A CPU's kernel then adds up in the order in which it would among padding, so that no bit of the answer differs.
    """
    rows_of, cells = _find_cells(layout)
    asked = cells if q.shape[0] == k.shape[0] else cells.index_select(0, layout.ends)
    sizes = [rows * length for length, rows in rows_of.items()]
    # Splitting, unlike slicing, has a backward pass that puts the parts together in one go.
    parts = [torch.split(_spread(x, at, sum(sizes)), sizes) for x, at in ((q, asked), (k, cells), (v, cells))]
    attended = []
    for rows, *group in zip(rows_of.values(), *parts, strict=True):
        one_q, one_k, one_v = (x.unflatten(0, (rows, -1)).transpose(1, 2) for x in group)
        out = attend(one_q, one_k, one_v, None, True, dropout_p, scale)
        attended.append(out.transpose(1, 2).flatten(0, 1))
    collected: Tensor = _Collect.apply(torch.cat(attended), asked)
    return collected


def _find_cells(layout: TextLayout) -> tuple[dict[int, int], Tensor]:
    """Choose rows for the texts of a stream: how many of each length, shortest first, and each token's cell, [T]."""
    rows_of: dict[int, int] = {}
    for rows, length in layout.shapes:
        row_length = min(-(-length // _SUMMED_AT_ONCE) * _SUMMED_AT_ONCE, layout.context_length)
        rows_of[row_length] = rows_of.get(row_length, 0) + rows
    lengths = layout.offsets.diff()
    row_lengths = (lengths + _SUMMED_AT_ONCE - 1).div(_SUMMED_AT_ONCE, rounding_mode="floor") * _SUMMED_AT_ONCE
    row_lengths = row_lengths.clamp(max=layout.context_length).to(torch.int64)
    starts = row_lengths.cumsum(0) - row_lengths
    return rows_of, starts.repeat_interleave(lengths, output_size=len(layout.positions)) + layout.positions


def _spread(x: Tensor, cells: Tensor, num_cells: int) -> Tensor:
    """Put ``x`` [T, H, K] into some of [num_cells, H, K]; the others hold zeros."""
    spread = x.new_zeros(num_cells, *x.shape[1:])
    spread[cells] = x
    return spread


class _Collect(torch.autograd.Function):
    """Take some cells, each at most once: torch's own way back adds row after row, for what may overlap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cells: Tensor) -> Tensor:
        ctx.save_for_backward(cells)
        ctx.num_cells = x.shape[0]
        return x.index_select(0, cells)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _spread(grads[0], ctx.saved_tensors[0], ctx.num_cells), None
