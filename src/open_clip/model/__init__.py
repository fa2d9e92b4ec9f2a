"""The model classes and what belongs to them, under the names people import. No logic."""

from open_clip.checkpoint.keys import convert_to_custom_text_state_dict
from open_clip.checkpoint.positions import resize_pos_embed, resize_text_pos_embed
from open_clip.model.cast import convert_weights_to_fp16, convert_weights_to_lp, get_cast_dtype, get_input_dtype
from open_clip.model.clip import CLIP
from open_clip.model.coca import CoCa
from open_clip.model.config import CLIPTextCfg, CLIPVisionCfg, MultimodalCfg
from open_clip.model.custom_text import CustomTextCLIP
from open_clip.model.openai import build_model_from_openai_state_dict
from open_clip.model.preprocess import get_model_preprocess_cfg, get_model_tokenize_cfg, set_model_preprocess_cfg
from open_clip.model.trace import trace_model

__all__ = [
    "CLIP",
    "CLIPTextCfg",
    "CLIPVisionCfg",
    "CoCa",
    "CustomTextCLIP",
    "MultimodalCfg",
    "build_model_from_openai_state_dict",
    "convert_to_custom_text_state_dict",
    "convert_weights_to_fp16",
    "convert_weights_to_lp",
    "get_cast_dtype",
    "get_input_dtype",
    "get_model_preprocess_cfg",
    "get_model_tokenize_cfg",
    "resize_pos_embed",
    "resize_text_pos_embed",
    "set_model_preprocess_cfg",
    "trace_model",
]
