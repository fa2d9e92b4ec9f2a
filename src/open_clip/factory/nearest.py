"""Which model weights are of, from the shapes of their tensors alone. Builds no model."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from torch import nn

from open_clip.checked_json import JsonObject
from open_clip.checkpoint import WeightsMismatch
from open_clip.checkpoint.foreign import name_foreign
from open_clip.errors import cut_list
from open_clip.factory.names import list_models, model_registry
from open_clip.modeling.config import CLIPTextCfg, CLIPVisionCfg

Shapes = Mapping[str, tuple[int, ...]]
_IMAGE = {"width": "width", "layers": "layers", "patch_size": "patches of"}
_TEXT = {"width": "width", "layers": "layers", "vocab_size": "words"}
_DEFAULTS = {"vision": asdict(CLIPVisionCfg()), "text": asdict(CLIPTextCfg())}


@contextlib.contextmanager
def explain_mismatch(model: nn.Module) -> Iterator[None]:
    """Context of loading weights: when they are of another model, say which.

    Raises:
        WeightsMismatch: they do not fit, with what their names and shapes tell.
    """
    try:
        yield
    except WeightsMismatch as error:
        told = name_foreign(error.shapes) or describe_shapes(error.shapes)
        if not hasattr(model, "text") and any(name.startswith("text.") for name in error.shapes):
            told += " They hold the text tower under 'text.': make the model with force_custom_text."
        raise WeightsMismatch(f"{error}\n{told}".rstrip(), error.shapes) from None


def describe_shapes(shapes: Shapes) -> str:
    """Name the models whose shapes weights in our layout have; without one, say what the shapes are."""
    found = {"vision": _read_image(shapes), "text": _read_text(shapes)}
    if not found["vision"] and not found["text"]:
        return ""
    fits = [name for name in list_models() if _fits(model_registry()[name], found, _read_embed_dim(shapes))]
    exact = [name for name in fits if _has_sizes(model_registry()[name], shapes, found)]
    if exact or fits:
        return f"Their shapes are those of {cut_list(exact or fits, limit=6)}."
    return f"No model known here has their shapes: {_write(found)}."


def _write(found: Mapping[str, JsonObject]) -> str:
    sides = (("vision", "image tower", _IMAGE), ("text", "text tower", _TEXT))
    told = []
    for side, name, words in sides:
        facts = [f"{word} {found[side][key]}" for key, word in words.items() if key in found[side]]
        told += [f"{name} with {', '.join(facts)}"] if facts else []
    return "; ".join(told)


def _count(shapes: Shapes, pattern: str) -> int:
    return len({match[1] for match in (re.match(pattern, name) for name in shapes) if match})


def _read_image(shapes: Shapes) -> JsonObject:
    patches = shapes.get("visual.conv1.weight", ())
    if "visual.class_embedding" in shapes and len(patches) == 4:
        layers = _count(shapes, r"visual\.transformer\.resblocks\.(\d+)\.")
        return {"width": patches[0], "layers": layers, "patch_size": patches[-1]}
    stem = shapes.get("visual.layer1.0.conv1.weight", ())
    if len(stem) == 4:
        blocks = [_count(shapes, rf"visual\.layer{stage}\.(\d+)\.") for stage in range(1, 5)]
        return {"width": stem[0], "layers": blocks}
    return {}


def _read_text(shapes: Shapes) -> JsonObject:
    words = _text_shape(shapes, "token_embedding.weight")
    if len(words) != 2:
        return {}
    layers = _count(shapes, r"(?:text\.)?transformer\.resblocks\.(\d+)\.")
    return {"width": words[1], "layers": layers, "vocab_size": words[0]}


def _text_shape(shapes: Shapes, name: str) -> tuple[int, ...]:
    return shapes.get(name) or shapes.get(f"text.{name}") or ()


def _read_embed_dim(shapes: Shapes) -> int | None:
    for name, axis in (("text_projection", 1), ("text.text_projection", 1), ("visual.proj", 1)):
        if len(shapes.get(name, ())) == 2:
            return shapes[name][axis]
    linear = _text_shape(shapes, "text_projection.weight")
    return linear[0] if linear else None


def _fits(config: JsonObject, found: Mapping[str, JsonObject], embed_dim: int | None) -> bool:
    if not {"vision_cfg", "text_cfg", "embed_dim"} <= config.keys():
        # A family of other parts does not show here what shapes they have.
        return False
    is_foreign = {
        "vision": "timm_model_name" in config["vision_cfg"],
        "text": "hf_model_name" in config["text_cfg"],
    }
    for side, facts in found.items():
        if is_foreign[side] or not facts:
            # A tower made elsewhere shows its shapes only when it is built.
            return False
        own = _DEFAULTS[side] | config[f"{side}_cfg"]
        if any(own[key] != value for key, value in facts.items()):
            return False
    return embed_dim is None or config["embed_dim"] == embed_dim


def _has_sizes(config: JsonObject, shapes: Shapes, found: Mapping[str, JsonObject]) -> bool:
    """Tell whether the tables of positions are as long as a configuration's, too."""
    vision, text = _DEFAULTS["vision"] | config["vision_cfg"], _DEFAULTS["text"] | config["text_cfg"]
    table, size = shapes.get("visual.positional_embedding", ()), vision["image_size"]
    is_vit = table and isinstance(size, int) and "patch_size" in found["vision"]
    if is_vit and table[0] != 1 + (size // vision["patch_size"]) ** 2:
        return False
    positions = _text_shape(shapes, "positional_embedding")
    return not positions or positions[0] == text["context_length"]
