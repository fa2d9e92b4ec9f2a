"""CoCa under the module name that programs import it from. No logic."""

from open_clip.families.coca.model import CoCa
from open_clip.generation.inputs import prepare_inputs_for_generation
from open_clip.modeling.config import CLIPTextCfg, CLIPVisionCfg, MultimodalCfg
from open_clip.modeling.towers import build_text_decoder as _build_text_decoder_tower
from open_clip.modeling.towers import build_text_tower as _build_text_tower
from open_clip.modeling.towers import build_vision_tower as _build_vision_tower
from open_clip.transformer import LayerNorm, LayerNormFp32, MultimodalTransformer, QuickGELU

__all__ = [
    "CLIPTextCfg",
    "CLIPVisionCfg",
    "CoCa",
    "LayerNorm",
    "LayerNormFp32",
    "MultimodalCfg",
    "MultimodalTransformer",
    "QuickGELU",
    "_build_text_decoder_tower",
    "_build_text_tower",
    "_build_vision_tower",
    "prepare_inputs_for_generation",
]
