"""How much each position of a decoder reads of each other: what its attention kernels compute and do not tell.

Shapes: B rows, H heads, T positions, D width.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from open_clip.families.nxtp.blocks import DecoderBlock
from open_clip.families.nxtp.decoder import Decoder


@torch.no_grad()
def attention_maps(decoder: Decoder, embeddings: Tensor, mask: Tensor, positions: Tensor) -> Iterator[Tensor]:
    """Give the map of each block, from the first: [B, H, T, T] in fp32 at least, of which each row adds up to one.

    Map [:, :, :S, :S] is the one between S image tokens.

    Args:
        decoder: The decoder.
        embeddings: A whole sequence, [B, T, D].
        mask: bool [B or 1, 1, T, T], True where a position may see another.
        positions: int64 [B or 1, T].
    """
    rotation = decoder.make_rotation(positions, embeddings.dtype)
    x = embeddings
    for block in decoder.blocks:
        assert isinstance(block, DecoderBlock)
        query, key, _ = block.attn.project(block.norm_1(x), rotation)
        scores = query @ block.attn.share_heads(key).mT * block.attn.head_width**-0.5
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        yield scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
        x = block(x, rotation, mask)
