"""The towers and their parts, under the names people import. No logic."""

from open_clip.transformer.attention import Attention, MultiHeadAttention
from open_clip.transformer.blocks import CustomResidualAttentionBlock, ResidualAttentionBlock
from open_clip.transformer.multimodal import MultimodalTransformer
from open_clip.transformer.norms import LayerNorm, LayerNormFp32, LayerScale, QuickGELU
from open_clip.transformer.patches import PatchDropout
from open_clip.transformer.pooling import AttentionalPooler, text_global_pool
from open_clip.transformer.stack import Transformer
from open_clip.transformer.text import TextTransformer
from open_clip.transformer.vision import VisionTransformer

__all__ = [
    "Attention",
    "AttentionalPooler",
    "CustomResidualAttentionBlock",
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
    "text_global_pool",
]
