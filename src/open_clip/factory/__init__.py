"""The way in: models, transforms, tokenizers and losses by name. No logic here."""

from open_clip.checked_json import JsonObject
from open_clip.checkpoint import (
    convert_to_custom_text_state_dict,
    resize_pos_embed,
    resize_text_pos_embed,
)
from open_clip.factory.create import create_model
from open_clip.factory.losses import create_loss
from open_clip.factory.names import HUB_SCHEME as HF_HUB_PREFIX
from open_clip.factory.names import LOCAL_DIR_SCHEME as LOCAL_DIR_PREFIX
from open_clip.factory.names import (
    add_model_config,
    get_model_config,
    list_models,
    model_registry,
    parse_model_name,
)
from open_clip.factory.tokenizers import get_tokenizer
from open_clip.factory.transforms import create_model_and_transforms, create_model_from_pretrained
from open_clip.factory.weights import load_checkpoint, load_state_dict
from open_clip.loss import ClipLoss, CoCaLoss, DistillClipLoss, SigLipLoss
from open_clip.model import (
    CLIP,
    CoCa,
    CustomTextCLIP,
    convert_weights_to_lp,
    get_cast_dtype,
    set_model_preprocess_cfg,
)
from open_clip.pretrained import (
    download_pretrained,
    download_pretrained_from_hf,
    get_pretrained_cfg,
    is_pretrained_cfg,
    list_pretrained_tags_by_model,
)
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SigLipTokenizer, SimpleTokenizer
from open_clip.transform import (
    AugmentationCfg,
    PreprocessCfg,
    image_transform_v2,
    merge_preprocess_dict,
    merge_preprocess_kwargs,
)

__all__ = [
    "CLIP",
    "DEFAULT_CONTEXT_LENGTH",
    "HF_HUB_PREFIX",
    "LOCAL_DIR_PREFIX",
    "AugmentationCfg",
    "ClipLoss",
    "CoCa",
    "CoCaLoss",
    "CustomTextCLIP",
    "DistillClipLoss",
    "HFTokenizer",
    "PreprocessCfg",
    "SigLipLoss",
    "SigLipTokenizer",
    "SimpleTokenizer",
    "add_model_config",
    "convert_to_custom_text_state_dict",
    "convert_weights_to_lp",
    "create_loss",
    "create_model",
    "create_model_and_transforms",
    "create_model_from_pretrained",
    "download_pretrained",
    "download_pretrained_from_hf",
    "get_cast_dtype",
    "get_model_config",
    "get_pretrained_cfg",
    "get_tokenizer",
    "image_transform_v2",
    "is_pretrained_cfg",
    "list_models",
    "list_pretrained_tags_by_model",
    "load_checkpoint",
    "load_state_dict",
    "merge_preprocess_dict",
    "merge_preprocess_kwargs",
    "parse_model_name",
    "resize_pos_embed",
    "resize_text_pos_embed",
    "set_model_preprocess_cfg",
]


def __getattr__(name: str) -> dict[str, JsonObject]:
    # Programs add models of their own by writing into this; it is read from the files at first use.
    if name == "_MODEL_CONFIGS":
        return model_registry()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
