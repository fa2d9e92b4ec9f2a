"""Decoding that computes each token once and keeps its keys and values. Choosing tokens is the searches' job.

Shapes: N images, R rows (N times the rows per image), L tokens, n of them new, S image tokens, D width, V vocabulary.
"""

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from open_clip.generation.decoder import Decoder
from open_clip.transformer import MultiHeadAttention, MultimodalTransformer, ResidualAttentionBlock, TextTransformer


def can_cache(text: nn.Module) -> TypeGuard[TextTransformer]:
    """Tell whether a text tower is one whose earlier tokens never depend on later ones."""
    if not isinstance(text, TextTransformer) or text.attn_mask is None:
        return False
    blocks = text.transformer.resblocks
    return all(isinstance(b, ResidualAttentionBlock) and isinstance(b.attn, MultiHeadAttention) for b in blocks)


class _CachedBlock:
    """A self attention block with the keys and values of the tokens seen."""

    def __init__(self, block: Any, window: int) -> None:
        self.block = block
        self.window = window
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def __call__(self, x: Tensor, start: int, mask: Tensor | None) -> Tensor:
        """Run the block on the new tokens [R, n, D], which stand at ``start`` and after."""
        attention = self.block.attn
        normed = self.block.ln_1(x)
        query, key, value = attention.project(normed, normed, normed)
        end = start + x.shape[1]
        if self.keys is None or self.values is None:
            shape = (*key.shape[:2], self.window, key.shape[-1])
            self.keys, self.values = key.new_empty(shape), value.new_empty(shape)
        self.keys[:, :, start:end] = key
        self.values[:, :, start:end] = value
        attended = attention.attend(query, self.keys[:, :, :end], self.values[:, :, :end], mask)
        out: Tensor = self.block.add_branches(x, attended)
        return out

    def reorder(self, rows: Tensor, length: int) -> None:
        """Move the first ``length`` positions of the rows."""
        if self.keys is not None and self.values is not None:
            self.keys[:, :, :length] = self.keys[rows, :, :length]
            self.values[:, :, :length] = self.values[rows, :, :length]


class _ImageReader:
    """A cross attention block with the keys and values of each image, made once and shared by the image's rows."""

    def __init__(self, block: Any, image_embs: Tensor) -> None:
        self.block = block
        normed = block.ln_1_kv(image_embs)
        self.keys: Tensor = block.attn.project_one(normed, 1)
        self.values: Tensor = block.attn.project_one(normed, 2)

    def __call__(self, x: Tensor) -> Tensor:
        """Run the block on tokens [R, n, D]."""
        attention = self.block.attn
        # All rows of an image ask together, as one long row: nothing about the image is repeated in memory.
        asking = self.block.ln_1(x).reshape(self.keys.shape[0], -1, x.shape[-1])
        attended = attention.attend(attention.project_one(asking, 0), self.keys, self.values)
        out: Tensor = self.block.add_branches(x, attended.reshape(x.shape))
        return out


class CachedDecoder(Decoder):
    """Gives what ``PrefixDecoder`` gives, for towers that ``can_cache`` accepts, at a cost per token that hardly grows.

    When a text outgrows the window every token changes its position, and the window is computed anew.
    """

    def __init__(
        self, text: TextTransformer, text_decoder: MultimodalTransformer, image_embs: Tensor, window: int
    ) -> None:
        self.text = text
        self.text_decoder = text_decoder
        self.window = window
        self.length = 0
        self.text_blocks = [_CachedBlock(block, window) for block in text.transformer.resblocks]
        self.decoder_blocks = [_CachedBlock(block, window) for block in text_decoder.resblocks]
        self.readers = [_ImageReader(block, image_embs) for block in text_decoder.cross_attn]

    def _masks(self, ids: Tensor, start: int) -> tuple[Tensor | None, Tensor | None]:
        """Make the masks of the new tokens for the text tower and for the decoder; None where all may be read."""
        end = ids.shape[1]
        causal = None
        if end - start > 1:
            everything = torch.ones(end - start, end, dtype=torch.bool, device=ids.device)
            causal = everything.triu(start + 1)
        if self.text.cls_emb is None:
            return causal, causal
        return self.text.padding_mask(ids, end + 1)[:, :, start:end, :end], causal

    def next_logits(self, ids: Tensor) -> Tensor:
        """Score what follows ``ids`` [R, L], computing only the tokens that are new: [R, V]."""
        if ids.shape[1] > self.window:
            ids, self.length = ids[:, -self.window :], 0
        start, end = self.length, ids.shape[1]
        text_mask, causal_mask = self._masks(ids, start)
        dtype = self.text.transformer.get_cast_dtype()
        x = self.text.token_embedding(ids[:, start:]).to(dtype) + self.text.positional_embedding[start:end].to(dtype)
        for block in self.text_blocks:
            x = block(x, start, text_mask)
        if self.text.cls_emb is None:
            x = self.text.ln_final(x)
        for block, read_image in zip(self.decoder_blocks, self.readers, strict=True):
            x = read_image(block(x, start, causal_mask))
        self.length = end
        return self.text_decoder.to_logits(x[:, -1])

    def reorder(self, rows: Tensor) -> None:
        """Move what is kept of the rows."""
        for block in (*self.text_blocks, *self.decoder_blocks):
            block.reorder(rows, self.length)
