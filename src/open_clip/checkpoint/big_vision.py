"""big_vision's SigLIP weights in our layout: a timm tower for images, a text tower of our own. Reads no files.

big_vision names an entry by its path (``img/Transformer/encoderblock_0/LayerNorm_0/scale``), keeps matrices as
[inputs, outputs] and attention by heads, and may keep all blocks of a tower stacked in one entry.

Source: open_clip.convert.load_big_vision_weights (3.3.0); big_vision's models/vit.py and models/proj/image_text.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from open_clip.errors import CheckpointError, printable

_MARK = "img/embedding/kernel"
_ROOT = "params/"
_ATTENTION = "MultiHeadDotProductAttention_0"
_PARTS = ("query", "key", "value")
# Of a tower; each gets a name of its own.
_MOST_BLOCKS = 1000
_WHOLE = {
    "t": "logit_scale",
    "b": "logit_bias",
    "img/cls": "visual.trunk.cls_token",
    "img/pos_embedding": "visual.trunk.pos_embed",
    "img/embedding/kernel": "visual.trunk.patch_embed.proj.weight",
    "img/embedding/bias": "visual.trunk.patch_embed.proj.bias",
    "img/MAPHead_0/probe": "visual.trunk.attn_pool.latent",
    "txt/pos_embedding": "text.positional_embedding",
    "txt/Embed_0/embedding": "text.token_embedding.weight",
}
# Places of layers whose entries are scale, kernel and bias: pattern, our place, our names of the layers in it.
_TIMM_BLOCK = {"LayerNorm_0": "norm1", "LayerNorm_1": "norm2", "MlpBlock_0/Dense_0": "mlp.fc1"} | {
    "MlpBlock_0/Dense_1": "mlp.fc2",
    f"{_ATTENTION}/out": "attn.proj",
    **{f"{_ATTENTION}/{part}": "attn.qkv" for part in _PARTS},
}
_TEXT_BLOCK = {"LayerNorm_0": "ln_1", "LayerNorm_1": "ln_2", "MlpBlock_0/Dense_0": "mlp.c_fc"} | {
    "MlpBlock_0/Dense_1": "mlp.c_proj",
    f"{_ATTENTION}/out": "attn.out_proj",
    **{f"{_ATTENTION}/{part}": "attn.in_proj" for part in _PARTS},
}
_POOL = {"LayerNorm_0": "norm", "MlpBlock_0/Dense_0": "mlp.fc1", "MlpBlock_0/Dense_1": "mlp.fc2"} | {
    f"{_ATTENTION}/out": "proj",
    f"{_ATTENTION}/query": "q",
    f"{_ATTENTION}/key": "kv",
    f"{_ATTENTION}/value": "kv",
}
_PLACES = (
    (r"img/Transformer/encoderblock_(\d+)/", "visual.trunk.blocks.{}.", _TIMM_BLOCK),
    (r"txt/Encoder_0/encoderblock_(\d+)/", "text.transformer.resblocks.{}.", _TEXT_BLOCK),
    (r"img/MAPHead_0/", "visual.trunk.attn_pool.", _POOL),
    (r"img/Transformer/", "visual.trunk.", {"encoder_norm": "norm"}),
    (r"txt/Encoder_0/", "text.", {"encoder_norm": "ln_final"}),
    (r"txt/", "text.", {"head": "text_projection"}),
)
_LEAVES = {"scale": "weight", "kernel": "weight", "bias": "bias"}


def is_big_vision(state_dict: Mapping[str, Tensor]) -> bool:
    """Tell from the names whether weights are big_vision's."""
    return _MARK in state_dict or _ROOT + _MARK in state_dict


def convert_big_vision_state_dict(model: nn.Module, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape big_vision's weights for ``model``; patches of another size are resampled.

    Entries without a place keep their names, so that whoever loads them reports them.

    Raises:
        CheckpointError: the model is not of this kind, or an entry has another form than it should.
    """
    trunk = getattr(getattr(model, "visual", None), "trunk", None)
    if not hasattr(trunk, "patch_embed") or not hasattr(model, "text"):
        raise CheckpointError(
            "these are big_vision's SigLIP weights, which only fit a model with a timm ViT for images and a text tower "
            "of its own. Name one of the SigLIP models, such as ViT-B-16-SigLIP."
        )
    converted: dict[str, Tensor] = {}
    joined: dict[str, dict[str, Tensor]] = {}
    for key, value in _unstack(_without_root(state_dict)):
        name, part = _rename(key)
        tensor = _reshape(key, value)
        if part is None:
            converted[name] = tensor
        else:
            joined.setdefault(name, {})[part] = tensor
    for name, parts in joined.items():
        wanted = _PARTS[1:] if ".kv." in name else _PARTS
        if missing := [part for part in wanted if part not in parts]:
            raise CheckpointError(f"of {printable(name, 120)}, {' and '.join(missing)} are missing in the file.")
        converted[name] = torch.cat([parts[part] for part in wanted])
    _resize_patches(trunk, converted)
    return converted


def _without_root(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what a training checkpoint holds beside the weights, which are then under ``params/``."""
    if _MARK in state_dict:
        return dict(state_dict)
    return {key.removeprefix(_ROOT): value for key, value in state_dict.items() if key.startswith(_ROOT)}


def _unstack(weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for key, value in weights.items():
        before, stacked, after = key.partition("/encoderblock/")
        if not stacked:
            yield key, value
            continue
        if value.dim() < 2 or len(value) > _MOST_BLOCKS:
            raise CheckpointError(f"{printable(key, 120)} has the shape {tuple(value.shape)}, which no stack has.")
        for index, layer in enumerate(value):
            yield f"{before}/encoderblock_{index}/{after}", layer


def _rename(key: str) -> tuple[str, str | None]:
    """Our name for an entry, and which part of a joined entry it is."""
    if key in _WHOLE:
        return _WHOLE[key], None
    layer, _, leaf = key.rpartition("/")
    for pattern, place, layers in _PLACES:
        found = re.match(pattern, layer + "/")
        if found is None or leaf not in _LEAVES:
            continue
        name = layers.get(layer[found.end() :])
        if name is None:
            continue
        part = layer.rpartition("/")[2]
        is_joined = name.endswith(("qkv", "in_proj", "kv"))
        separator = "_" if name.endswith("in_proj") else "."
        return f"{place.format(*found.groups())}{name}{separator}{_LEAVES[leaf]}", part if is_joined else None
    return key, None


def _reshape(key: str, value: Tensor) -> Tensor:
    parent, _, leaf = key.rpartition("/")
    layer = parent.rpartition("/")[2]
    in_attention = _ATTENTION in key
    try:
        if key == _MARK:
            return value.permute(3, 2, 0, 1)
        if key == "txt/pos_embedding":
            return value.squeeze(0)
        if leaf == "kernel":
            # Flax keeps [inputs, outputs] and attention by heads: [D, H, K] on its way in, [H, K, D] on its way out.
            return (value.flatten(0, -2) if in_attention and layer == "out" else value.flatten(1)).T
        return value.flatten() if in_attention else value
    except (RuntimeError, IndexError) as error:
        raise CheckpointError(
            f"{printable(key, 120)} has the shape {tuple(value.shape)}, which no such entry has."
        ) from error


def _resize_patches(trunk: Any, converted: dict[str, Tensor]) -> None:
    """Resample the patch embedding to the model's patches, as upstream does; positions of another grid do not fit."""
    key = "visual.trunk.patch_embed.proj.weight"
    size = trunk.patch_embed.proj.weight.shape[-2:]
    if converted[key].shape[-2:] != size:
        import timm.layers

        converted[key] = timm.layers.resample_patch_embed(
            converted[key], list(size), interpolation="bilinear", antialias=False
        )
