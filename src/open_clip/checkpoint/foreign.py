"""What weights are that fit no model here, from their names; the remedy stands with each. Converts nothing."""

import re
from collections.abc import Iterable

_LORA = r"(^|\.)lora_[AB]\."
_TIMM_VIT = r"^(cls_token|pos_embed|patch_embed\.proj\.weight|blocks\.0\.attn\.qkv\.weight)$"
_AS_IMAGE_TOWER = (
    "As the image tower of a model with that timm network they are taken by pretrained_image_path=FILE (create_model)."
)
# (pattern that one name has to match, another one or None, what the weights are, what to do)
_KINDS: tuple[tuple[str, str | None, str, str], ...] = (
    (
        _LORA,
        None,
        "a LoRA adapter, not whole weights",
        "Merge it into its model where it was trained (peft: merge_and_unload) and save that.",
    ),
    (
        r"^bert\.(embeddings|encoder)\.",
        r"^visual\.",
        "Chinese-CLIP (cn_clip): CLIP's image tower and a Chinese BERT",
        "No model here has that text tower; pretrained_image_path=FILE (create_model) takes the image tower alone.",
    ),
    (
        r"^vision_model\.head\.probe$|^text_model\.head\.",
        r"^(vision|text)_model\.",
        "SigLIP in transformers' layout",
        "That layout is not converted; the same weights are published in this one: see open_clip.list_pretrained() for "
        "the SigLIP models (tag webli), or give timm's file of them.",
    ),
    (
        r"^(vision|text)_model\.",
        None,
        "in transformers' layout, but not of a whole plain CLIPModel",
        "Whole ones are converted when they are loaded; give the model.safetensors of the CLIPModel.",
    ),
    (
        r"^((ro)?bert(a)?\.)?embeddings\.word_embeddings\.weight$",
        None,
        "a text encoder of BERT's family alone, in transformers' layout",
        "A Hugging Face text tower starts from its own base weights by itself; name them as text_cfg's hf_model_name.",
    ),
    (_TIMM_VIT, r"^blocks\.\d+\.", "a timm ViT: an image network alone, without a text tower", _AS_IMAGE_TOWER),
    (
        r"^layer1\.0\.conv1\.weight$",
        r"^(fc\.|bn1\.|conv1\.)",
        "a ResNet of timm or torchvision: an image network alone, without a text tower",
        _AS_IMAGE_TOWER,
    ),
    (
        r"^(stem|stages)\.\d+\.",
        r"^(head|stages)\.",
        "an image network of timm alone, without a text tower",
        _AS_IMAGE_TOWER,
    ),
)


def name_foreign(names: Iterable[str]) -> str | None:
    """Say what weights are that are in no layout of ours, and what to do; None when they are not known."""
    listed = list(names)
    for first, second, kind, remedy in _KINDS:
        patterns = [pattern for pattern in (first, second) if pattern is not None]
        if all(any(re.search(pattern, name) for name in listed) for pattern in patterns):
            return f"These weights are {kind}. {remedy}"
    return None
