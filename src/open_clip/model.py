"""The model classes and what belongs to them, under the names people import. No logic."""

from open_clip.checkpoint.keys import convert_to_custom_text_state_dict
from open_clip.checkpoint.positions import resize_pos_embed, resize_text_pos_embed
from open_clip.families.clip.model import CLIP
from open_clip.families.clip.openai import build_model_from_openai_state_dict
from open_clip.families.coca.model import CoCa
from open_clip.families.custom_text.model import CustomTextCLIP
from open_clip.hf_model import HFTextEncoder
from open_clip.modeling.cast import convert_weights_to_fp16, convert_weights_to_lp, get_cast_dtype, get_input_dtype
from open_clip.modeling.config import CLIPTextCfg, CLIPVisionCfg, MultimodalCfg
from open_clip.modeling.preprocess import get_model_preprocess_cfg, get_model_tokenize_cfg, set_model_preprocess_cfg
from open_clip.modeling.towers import build_text_tower as _build_text_tower
from open_clip.modeling.towers import build_vision_tower as _build_vision_tower
from open_clip.modeling.trace import trace_model
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import (
    Attention,
    LayerNorm,
    LayerNormFp32,
    QuickGELU,
    TextTransformer,
    VisionTransformer,
    lock_text_tower,
    text_global_pool,
)
from open_clip.tuples import to_2tuple

__all__ = [
    "CLIP",
    "Attention",
    "CLIPTextCfg",
    "CLIPVisionCfg",
    "CoCa",
    "CustomTextCLIP",
    "HFTextEncoder",
    "LayerNorm",
    "LayerNormFp32",
    "ModifiedResNet",
    "MultimodalCfg",
    "QuickGELU",
    "TextTransformer",
    "TimmModel",
    "VisionTransformer",
    "_build_text_tower",
    "_build_vision_tower",
    "build_model_from_openai_state_dict",
    "convert_to_custom_text_state_dict",
    "convert_weights_to_fp16",
    "convert_weights_to_lp",
    "get_cast_dtype",
    "get_input_dtype",
    "get_model_preprocess_cfg",
    "get_model_tokenize_cfg",
    "lock_text_tower",
    "resize_pos_embed",
    "resize_text_pos_embed",
    "set_model_preprocess_cfg",
    "text_global_pool",
    "to_2tuple",
    "trace_model",
]
