"""Computing the last block only where it is read: which positions, and whether a block can do it.

Shapes: B batch, L positions, D width, Q positions read, T tokens of a stream of texts.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.transformer.layout import TextLayout

# Attention of fewer rows than this is added up in another order by the library for CPUs that torch comes with.
_FEWEST_ROWS = 4
_HOOK_TABLES = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def take_read(x: Tensor, read: Tensor | int, layout: TextLayout | None = None) -> Tensor:
    """Take one position of each row of ``x`` [B, L, D] as [B, 1, D], or some of the stream's [1, T, D] as [1, Q, D]."""
    if isinstance(read, int):
        # In one piece: torch adds a layer's bias to the product of a strided input apart, which rounds once more.
        return x[:, read : read + 1].contiguous()
    if layout is not None:
        return x.index_select(1, read)
    return x[torch.arange(x.shape[0], device=x.device), read].unsqueeze(1)


def take_positions(
    x: Tensor,
    normed: Tensor,
    read: Tensor | int | None,
    attn_mask: Tensor | None,
    is_causal: bool,
    layout: TextLayout | None,
) -> tuple[Tensor, Tensor, Tensor | None, bool]:
    """Cut a block's input down to what is read.

    Returns:
        The input and the normed input at the positions read, and what limits their attention: a mask, and whether it
        is causal. More rows may stand behind those of the normed input; what they give is to be dropped.
    """
    if read is None:
        return x, normed, attn_mask, is_causal
    assert attn_mask is None
    if is_causal and layout is None:
        # True where forbidden: what stands behind the position read.
        last = read[:, None] if isinstance(read, Tensor) else read
        behind = torch.arange(x.shape[1], device=x.device) > last
        attn_mask = behind.expand(x.shape[0], -1)[:, None, None]
    query = take_read(normed, read, layout)
    return take_read(x, read, layout), query if layout is not None else accompany(query), attn_mask, False


def accompany(query: Tensor) -> Tensor:
    """Put rows of zeros behind what asks alone, [B, 1, D], so that on a CPU it gets the bits that it gets among all."""
    return F.pad(query, (0, 0, 0, _FEWEST_ROWS - 1)) if query.device.type == "cpu" else query


def has_own_hooks(modules: Iterable[nn.Module]) -> bool:
    """Tell whether a program has put hooks on any of the modules; torch's wrappers for several devices do not count."""
    return any(
        not str(getattr(hook, "__module__", "")).startswith("torch.distributed")
        for module in modules
        for table in _HOOK_TABLES
        for hook in getattr(module, table).values()
    )


def runs_own_forward(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Tell whether a module is of one of these classes, or a subclass that computes the same."""
    forwards = [kind.forward for kind in kinds]
    # torch 2.6 does not compile through ``vars``.
    return type(module).forward in forwards and "forward" not in module.__dict__
