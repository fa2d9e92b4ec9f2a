"""Weights of others put into a model: a published decoder, and what the public NXTP trained."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from open_clip.errors import CheckpointError, cut_list, printable
from open_clip.families.nxtp.decoder import Decoder, DecoderCfg
from open_clip.families.nxtp.decoder_files import open_decoder
from open_clip.families.nxtp.layouts import META

# Of how the model runs: another value gives other logits from the same weights.
_SAME = ("width", "heads", "kv_heads", "ffn_width", "vocab_size", "norm_eps", "rope_base")
_VISION, _LANGUAGE = "vision_encoder.", "language_decoder."
_PROJECTIONS = ("proj", "proj.weight")


def load_decoder(decoder: Decoder, path: str | Path) -> None:
    """Load a published decoder into ours: its first blocks where ours has fewer; added tokens keep their rows.

    Raises:
        CheckpointError: a file is missing or damaged, or the decoder is another one.
    """
    files = open_decoder(path)
    ours, theirs = vars(decoder.cfg), vars(files.cfg)
    filled = {"kv_heads": "heads"}
    for name in _SAME:
        own, told = (values[name] if values[name] is not None else values[filled[name]] for values in (ours, theirs))
        if own != told:
            raise CheckpointError(
                f"{printable(path)}: {name} of this decoder is {told} and decoder_cfg.{name} of the model is {own}: "
                "the same weights would compute something else. Choose the model that belongs to it."
            )
    state = decoder.state_dict()
    for own, weight in files.read(decoder.cfg.layers):
        target = state[own]
        # Rows of added tokens stand behind those of the file.
        rows = decoder.cfg.vocab_size if own in ("token_embedding.weight", "head.weight") else len(target)
        if weight.shape != target[:rows].shape:
            raise CheckpointError(
                f"{printable(path)}: {own} is {tuple(weight.shape)} in the file and {tuple(target[:rows].shape)} in "
                "the model. Check that the model name matches the file."
            )
        with torch.no_grad():
            target[:rows].copy_(weight)


def is_public(names: Iterable[str]) -> bool:
    """Tell weights of the public NXTP by their names."""
    return any(name.startswith((_VISION, _LANGUAGE)) for name in names)


def convert_public(state_dict: dict[str, Tensor], cfg: DecoderCfg) -> dict[str, Tensor]:
    """Bring what the public NXTP trained, a part of the model, into the whole model's names.

    Its decoder has Meta's layout. The projection of its image tower is [width of it, D], or a linear layer's weight.

    Raises:
        CheckpointError: an entry is none of that model's.
    """
    converted, unknown = {}, []
    for name, weight in state_dict.items():
        if name.startswith(_VISION):
            part = name.removeprefix(_VISION)
            if part in _PROJECTIONS:
                converted["projection.weight"] = weight.mT if weight.shape[-1] == cfg.width else weight
            else:
                converted[f"visual.{part}"] = weight
            continue
        inner = name.removeprefix(_LANGUAGE)
        own = META.own_name(inner) if name.startswith(_LANGUAGE) else None
        if own is not None:
            converted[f"decoder.{own}"] = META.to_own(own, weight, cfg)
        elif not META.is_derived(inner):
            unknown.append(name)
    if unknown:
        raise CheckpointError(
            f"these are weights of the public NXTP with {len(unknown)} entries that it does not have: "
            f"{cut_list(map(printable, unknown))}. Take the file as it was written."
        )
    return converted
