"""Running a causal text tower up to what is read of it: the end-of-text token of each text, without the padding.

Which tokens are computed is planned in ``layout.py``; norm and projection of what is read are the towers' job.
Shapes: B texts, L tokens, T tokens of all texts together, R rows, D width.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from open_clip.errors import ConfigError
from open_clip.transformer.blocks import knows_layouts
from open_clip.transformer.layout import TextLayout, plan_texts
from open_clip.transformer.pooling import READ_AT_END, find_ends
from open_clip.transformer.reading import has_own_hooks
from open_clip.transformer.stack import Transformer


class TextParts(Protocol):
    """What a native text tower, or a CLIP that holds its parts, gives to be run."""

    token_embedding: nn.Embedding
    positional_embedding: nn.Parameter
    transformer: Transformer
    ln_final: nn.Module
    attn_mask: Tensor | None


def can_read_ends(parts: TextParts, pool_type: str, layout: TextLayout | None = None) -> bool:
    """Tell whether ``encode_ends`` gives what is read of the tower.

    It does where the tower is causal and read at the end-of-text token. Hooks that a program has put on the tower would
    see fewer positions than they expect, unless there is a layout, which says so.
    """
    if parts.attn_mask is None or pool_type not in READ_AT_END:
        return False
    return layout is not None or not has_own_hooks(
        (parts.token_embedding, parts.ln_final, *parts.transformer.modules())
    )


def _is_symbolic(text: Tensor) -> bool:
    """Tell whether the values of ``text`` cannot be looked at, because a graph is being made."""
    is_tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return type(text) is not Tensor or is_tracing or torch.compiler.is_compiling()


def _plan_now(parts: TextParts, text: Tensor, pool_type: str, eos_id: int) -> TextLayout | None:
    """Plan texts that came without a layout, where that costs little."""
    is_on_host = text.device.type == "cpu"
    # Reading lengths back from a device stops it, which a training step should not.
    if _is_symbolic(text) or not (is_on_host or not torch.is_grad_enabled()):
        return None
    lengths = find_ends(text, pool_type, eos_id).cpu() + 1
    if is_on_host:
        return plan_texts(lengths, shapes="packed", context_length=parts.positional_embedding.shape[0])
    layout = plan_texts(lengths, shapes="bucketed", context_length=text.shape[1])
    return None if layout is None else layout.to(text.device)


def encode_ends(
    parts: TextParts, text: Tensor, pool_type: str, eos_id: int, layout: TextLayout | None = None
) -> Tensor:
    """Encode texts [B, L] up to the last block and return what it gives at their end-of-text tokens, [B, D].

    Raises:
        ConfigError: the texts are longer than the table of positions, or the layout is for another number of texts.
    """
    check_text_length(text.shape[1], parts.positional_embedding.shape[0])
    if layout is None and text.dim() == 2:
        layout = _plan_now(parts, text, pool_type, eos_id)
    elif layout is not None and layout.num_texts != text.shape[0]:
        raise ConfigError(
            f"the layout was planned for {layout.num_texts} texts, but there are {text.shape[0]}; "
            "plan it from the lengths of these texts."
        )
    if layout is not None and layout.is_packed:
        if all(knows_layouts(block) for block in parts.transformer.resblocks):
            return _encode_packed(parts, text, layout)
        layout = None
    if layout is None:
        read = find_ends(text, pool_type, eos_id)
        x: Tensor = parts.transformer(embed_texts(parts, text), None, True, read=read)
        return x[:, 0]
    return _encode_runs(parts, text, layout)


def check_text_length(num_tokens: int, num_positions: int) -> None:
    """Refuse texts longer than the table of positions.

    Raises:
        ConfigError: they are longer.
    """
    if num_tokens > num_positions:
        raise ConfigError(
            f"the texts have {num_tokens} tokens, but the text tower has {num_positions} positions; "
            "tokenise with the model's context_length."
        )


def embed_texts(parts: TextParts, text: Tensor) -> Tensor:
    """Turn token ids [B, L] into what enters the first block, [B, L, D].

    Raises:
        ConfigError: the texts are longer than the table of positions.
    """
    check_text_length(text.shape[1], parts.positional_embedding.shape[0])
    dtype = parts.transformer.get_cast_dtype()
    embedded: Tensor = parts.token_embedding(text).to(dtype)
    return embedded + parts.positional_embedding[: text.shape[1]].to(dtype)


def _encode_packed(parts: TextParts, text: Tensor, layout: TextLayout) -> Tensor:
    """Run all texts as one stream."""
    dtype = parts.transformer.get_cast_dtype()
    tokens = parts.token_embedding(text[layout.token_rows, layout.positions]).to(dtype)
    # Rows of the table that no text reaches get a gradient of zero, not none, so that optimizers treat them alike.
    x = tokens + parts.positional_embedding.index_select(0, layout.positions).to(dtype)
    read: Tensor = parts.transformer(x.unsqueeze(0), None, True, read=layout.ends, layout=layout)
    return read[0].index_select(0, layout.order)


def _encode_runs(parts: TextParts, text: Tensor, layout: TextLayout) -> Tensor:
    """Run rows of the same length together, run after run; no tensor has a shape that depends on the texts."""
    num_texts = text.shape[0]
    result: Tensor | None = None
    start = 0
    for rows, length in layout.shapes:
        held, slots, ends = (x[start : start + rows] for x in (layout.rows, layout.slots, layout.ends))
        x = embed_texts(parts, text.index_select(0, held)[:, :length])
        read = parts.transformer(x, None, True, read=ends)[:, 0]
        if result is None:
            result = read.new_zeros(num_texts + 1, read.shape[-1])
        result = result.index_add(0, slots, read)
        start += rows
    assert result is not None
    return result[:num_texts]
