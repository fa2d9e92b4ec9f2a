"""Random weights in the layouts of big_vision and of Apple's MobileCLIP, for tests of their conversion.

The names and shapes are written down here from those projects, not derived from our converters.
"""

import re

import numpy as np
import torch
from torch import Tensor

ATTENTION = "MultiHeadDotProductAttention_0"
SIGLIP_TEXT = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}


def register_tiny_siglip(name: str = "tiny_siglip", image_size: int = 32, patch_size: int = 8) -> None:
    """Give timm a SigLIP image tower of 24 columns and 2 blocks."""
    from timm.models import register_model, vision_transformer

    def make(pretrained: bool = False, **options: object) -> object:
        sizes = {"img_size": image_size, "patch_size": patch_size, "embed_dim": 24, "depth": 2, "num_heads": 2}
        kind = {"class_token": False, "global_pool": "map"}
        # timm passes on where pretrained weights would come from.
        asked = {key: value for key, value in options.items() if key in ("num_classes", "global_pool")}
        return vision_transformer.VisionTransformer(**{**sizes, **kind, "mlp_ratio": 2, **asked})

    make.__name__ = name
    # timm looks for the settings of a model in its module.
    make.__module__ = "timm.models.vision_transformer"
    register_model(make)


def tiny_siglip_config(timm_name: str = "tiny_siglip", image_size: int = 32) -> dict[str, object]:
    """A model of that image tower and of a text tower with 40 words."""
    vision = {"timm_model_name": timm_name, "image_size": image_size, "timm_pool": "map", "timm_proj": "none"}
    text = {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 4, "layers": 3, "mlp_ratio": 3}
    config = {"embed_dim": 24, "init_logit_bias": -10, "custom_text": True}
    return config | {"vision_cfg": vision, "text_cfg": text | SIGLIP_TEXT}


def big_vision_arrays(seed: int) -> dict[str, np.ndarray]:
    """Draw a tiny SigLIP as big_vision saves it; it fits ``tiny_siglip_config``."""
    draw = np.random.default_rng(seed)
    shapes = big_vision_shapes((24, 48, 2, 2, 16, 8), (16, 48, 3, 4, 8, 40))
    return {key: draw.normal(0, 0.3, shape).astype(np.float32) for key, shape in shapes.items()}


def big_vision_shapes(image: tuple[int, ...], text: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Names and shapes for (width, hidden, blocks, heads, positions, patch size or words) of each tower."""
    arrays: dict[str, tuple[int, ...]] = {"t": (1,), "b": (1,)}
    width, hidden, blocks, heads, positions, patch = image
    arrays |= {"img/embedding/kernel": (patch, patch, 3, width), "img/embedding/bias": (width,)}
    arrays |= {"img/pos_embedding": (1, positions, width), "img/MAPHead_0/probe": (1, 1, width)}
    arrays |= _attention("img/MAPHead_0/", width, heads) | _mlp("img/MAPHead_0/", width, hidden)
    arrays |= _norm("img/MAPHead_0/LayerNorm_0/", width) | _encoder("img/Transformer/", width, hidden, blocks, heads)
    embed_dim = width
    width, hidden, blocks, heads, positions, words = text
    arrays |= {"txt/Embed_0/embedding": (words, width), "txt/pos_embedding": (1, positions, width)}
    arrays |= _encoder("txt/Encoder_0/", width, hidden, blocks, heads)
    arrays |= {"txt/head/kernel": (width, embed_dim), "txt/head/bias": (embed_dim,)}
    return {f"params/{key}": shape for key, shape in arrays.items()}


def stack_blocks(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same weights as big_vision saves them when it scans over the blocks."""
    stacked: dict[str, list[np.ndarray]] = {}
    plain = {}
    for key, array in arrays.items():
        name = re.sub(r"encoderblock_\d+/", "encoderblock/", key)
        if name == key:
            plain[key] = array
        else:
            stacked.setdefault(name, []).append(array)
    return plain | {name: np.stack(layers) for name, layers in stacked.items()}


def _norm(place: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{place}scale": (width,), f"{place}bias": (width,)}


def _mlp(place: str, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    first, second = f"{place}MlpBlock_0/Dense_0/", f"{place}MlpBlock_0/Dense_1/"
    entries = {f"{first}kernel": (width, hidden), f"{first}bias": (hidden,)}
    return entries | {f"{second}kernel": (hidden, width), f"{second}bias": (width,)}


def _attention(place: str, width: int, heads: int) -> dict[str, tuple[int, ...]]:
    entries = {}
    for part in ("query", "key", "value"):
        entries[f"{place}{ATTENTION}/{part}/kernel"] = (width, heads, width // heads)
        entries[f"{place}{ATTENTION}/{part}/bias"] = (heads, width // heads)
    out = f"{place}{ATTENTION}/out/"
    return entries | {f"{out}kernel": (heads, width // heads, width), f"{out}bias": (width,)}


def _encoder(place: str, width: int, hidden: int, blocks: int, heads: int) -> dict[str, tuple[int, ...]]:
    entries = _norm(f"{place}encoder_norm/", width)
    for index in range(blocks):
        block = f"{place}encoderblock_{index}/"
        entries |= _norm(f"{block}LayerNorm_0/", width) | _norm(f"{block}LayerNorm_1/", width)
        entries |= _attention(block, width, heads) | _mlp(block, width, hidden)
    return entries


_FASTVIT_NAMES = (
    (r"^stem\.", "patch_embed."),
    (r"stages\.(\d+)\.downsample\.proj\.", lambda found: f"network.{2 * int(found[1]) - 1}.proj."),
    (r"stages\.(\d+)\.pos_emb\.pos_enc\.", lambda found: f"network.{2 * int(found[1])}.pe."),
    # A stage that begins with a position encoding stands one place further.
    (r"stages\.3\.blocks\.", "network.7."),
    (r"stages\.(\d+)\.blocks\.", lambda found: f"network.{2 * int(found[1])}."),
    (r"conv_kxk", "rbr_conv"),
    (r"conv_scale", "rbr_scale"),
    (r"identity", "rbr_skip"),
    (r"^final_conv", "conv_exp"),
    (r"large_conv", "lkb_origin"),
    (r"\.mlp\.", ".convffn."),
    (r"se\.fc1", "se.reduce"),
    (r"se\.fc2", "se.expand"),
    (r"(layer_scale(_\d)?)\.gamma", r"\1"),
    (r"^head\.fc\.weight$", "head.proj"),
)
_VIT_NAMES = (
    (r"^patch_embed\.backbone\.(\d+)\.conv\.", r"patch_emb.\1.block.conv."),
    (r"^patch_embed\.backbone\.(\d+)\.bn\.", r"patch_emb.\1.block.norm."),
    (r"^norm\.", "post_transformer_norm."),
    (r"^blocks\.", "transformer."),
    (r"\.norm1\.", ".pre_norm_mha.0."),
    (r"\.attn\.qkv\.", ".pre_norm_mha.1.qkv_proj."),
    (r"\.attn\.proj\.", ".pre_norm_mha.1.out_proj."),
    (r"\.norm2\.", ".pre_norm_ffn.0."),
    (r"\.mlp\.fc1\.", ".pre_norm_ffn.1."),
    (r"\.mlp\.fc2\.", ".pre_norm_ffn.4."),
    (r"^pos_embed$", "pos_embed.pos_embed.pos_embed"),
    (r"^head\.weight$", "classifier.proj"),
)
_TEXT_NAMES = (
    (r"^token_embedding\.", "embedding_layer."),
    (r"^text_projection", "projection_layer"),
    (r"^ln_final\.", "final_layer_norm."),
    (r"^positional_embedding$", "positional_embedding.pos_embed.pos_embed"),
    (r"\.resblocks\.", "."),
    (r"\.ln_1\.", ".pre_norm_mha.0."),
    (r"\.attn\.in_proj_", ".pre_norm_mha.1.qkv_proj."),
    (r"\.attn\.", ".pre_norm_mha.1."),
    (r"\.ln_2\.", ".pre_norm_ffn.0."),
    (r"\.mlp\.c_fc\.", ".pre_norm_ffn.1."),
    (r"\.mlp\.c_proj\.", ".pre_norm_ffn.4."),
)


def mobile_clip_weights(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Draw weights of a model's anew, and name and shape them as Apple does."""
    fastvit = "visual.trunk.head.fc.weight" in state_dict
    weights = {}
    for key, value in state_dict.items():
        drawn = torch.rand_like(value) * 0.2 if value.is_floating_point() else value + 3
        if key.startswith("visual.trunk."):
            name = _apply(key.removeprefix("visual.trunk."), _FASTVIT_NAMES if fastvit else _VIT_NAMES)
            drawn = drawn.T.contiguous() if name in ("head.proj", "classifier.proj") else drawn
            drawn = drawn[None] if name.startswith("pos_embed") else drawn
            if not name.startswith(("head.fc.bias", "head.bias")):
                weights[f"image_encoder.model.{name}"] = drawn
        elif key.startswith("text."):
            name = _apply(key.removeprefix("text."), _TEXT_NAMES)
            weights[f"text_encoder.{name}"] = drawn[None, None] if name.startswith("positional") else drawn
        else:
            weights[key] = drawn
    return weights


def _apply(name: str, rules: tuple[tuple[str, object], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)  # type: ignore[call-overload]
    return name
