"""The towers and their parts, under the names people import. No logic."""

from open_clip.pos_embed import get_2d_sincos_pos_embed
from open_clip.transformer.attention import Attention, MultiHeadAttention
from open_clip.transformer.blocks import CustomResidualAttentionBlock, ResidualAttentionBlock
from open_clip.transformer.multimodal import MultimodalTransformer
from open_clip.transformer.norms import LayerNorm, LayerNormFp32, LayerScale, QuickGELU
from open_clip.transformer.patches import PatchDropout
from open_clip.transformer.patches import expand_token as _expand_token
from open_clip.transformer.pooling import AttentionalPooler, text_global_pool
from open_clip.transformer.stack import CustomTransformer, Transformer, feature_take_indices
from open_clip.transformer.text import TextTransformer, lock_text_tower
from open_clip.transformer.vision import VisionTransformer
from open_clip.tuples import to_2tuple

__all__ = [
    "Attention",
    "AttentionalPooler",
    "CustomResidualAttentionBlock",
    "CustomTransformer",
    "LayerNorm",
    "LayerNormFp32",
    "LayerScale",
    "MultiHeadAttention",
    "MultimodalTransformer",
    "PatchDropout",
    "QuickGELU",
    "ResidualAttentionBlock",
    "TextTransformer",
    "Transformer",
    "VisionTransformer",
    "_expand_token",
    "feature_take_indices",
    "get_2d_sincos_pos_embed",
    "lock_text_tower",
    "text_global_pool",
    "to_2tuple",
]
