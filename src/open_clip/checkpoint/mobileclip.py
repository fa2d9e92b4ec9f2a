"""Apple's MobileCLIP weights in our layout: S1, S2 and B. Reads no files; MobileCLIP2 is published in our layout.

The image half is renamed by timm, whose networks these are.

Source: open_clip.convert.convert_mobile_clip_state_dict and convert_state_dict (3.3.0).
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from open_clip.errors import CheckpointError

_IMAGE = "image_encoder."
_TEXT = "text_encoder."
_FASTVIT_MARK = "image_encoder.model.patch_embed.0.rbr_conv.0.conv.weight"
_VIT_MARK = "image_encoder.model.patch_emb.0.block.conv.weight"
# (pattern, ours), each tried in turn on a name of the text half.
_TEXT_NAMES = (
    (r"^positional_embedding\.pos_embed\.pos_embed$", "positional_embedding"),
    (r"^embedding_layer\.", "token_embedding."),
    (r"^projection_layer", "text_projection"),
    (r"^final_layer_norm\.", "ln_final."),
    (r"^transformer\.", "transformer.resblocks."),
    (r"\.pre_norm_mha\.0\.", ".ln_1."),
    (r"\.pre_norm_mha\.1\.qkv_proj\.", ".attn.in_proj_"),
    (r"\.pre_norm_mha\.1\.", ".attn."),
    (r"\.pre_norm_ffn\.0\.", ".ln_2."),
    (r"\.pre_norm_ffn\.1\.", ".mlp.c_fc."),
    (r"\.pre_norm_ffn\.4\.", ".mlp.c_proj."),
)


def is_mobile_clip(state_dict: Mapping[str, Tensor]) -> bool:
    """Tell from the names whether weights are Apple's own."""
    return _FASTVIT_MARK in state_dict or _VIT_MARK in state_dict


def convert_mobile_clip_state_dict(
    model: nn.Module, state_dict: Mapping[str, Tensor], fastvit: bool = True
) -> dict[str, Tensor]:
    """Rename Apple's weights for ``model``: S1 and S2, or B with ``fastvit`` off.

    Entries without a place keep their names, so that whoever loads them reports them.

    Raises:
        CheckpointError: the model is not of this kind.
    """
    trunk = getattr(getattr(model, "visual", None), "trunk", None)
    if trunk is None or not hasattr(model, "text"):
        raise CheckpointError(
            "these are Apple's MobileCLIP weights, which only fit a model with a timm network for images and a text "
            "tower of its own. Name MobileCLIP-S1, MobileCLIP-S2 or MobileCLIP-B."
        )
    if fastvit:
        from timm.models.fastvit import checkpoint_filter_fn
    else:
        from timm.models.vision_transformer_hybrid import checkpoint_filter_fn
    image = {key: value for key, value in state_dict.items() if key.startswith(_IMAGE)}
    converted = {f"visual.trunk.{key}": value for key, value in checkpoint_filter_fn(image, trunk).items()}
    for key, value in state_dict.items():
        if key.startswith(_TEXT):
            name = _rename_text(key.removeprefix(_TEXT))
            converted[f"text.{name}"] = value.squeeze() if name == "positional_embedding" else value
        elif not key.startswith(_IMAGE):
            converted[key] = value
    return converted


def convert_mobile_clip(model: nn.Module, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename Apple's weights for ``model``, whichever of them they are."""
    return convert_mobile_clip_state_dict(model, state_dict, fastvit=_FASTVIT_MARK in state_dict)


def _rename_text(name: str) -> str:
    for pattern, ours in _TEXT_NAMES:
        name = re.sub(pattern, ours, name)
    return name
