"""Putting weights into a model, with a report of what does not fit. Reading the file is ``read.py``'s job."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys

from open_clip.checkpoint.keys import fit_to_model
from open_clip.checkpoint.positions import resize_pos_embed, resize_text_pos_embed
from open_clip.checkpoint.read import read_state_dict
from open_clip.errors import CheckpointError, cut_list, naming_file, printable

#: The names that were missing in the weights and those that the model does not have, as torch gives them.
LoadedKeys: TypeAlias = _IncompatibleKeys


class WeightsMismatch(CheckpointError):
    """Weights do not fit a model; ``shapes`` are theirs by name, in our layout as far as that is known."""

    def __init__(self, message: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(message)
        self.shapes = shapes


def load_checkpoint(
    model: nn.Module,
    checkpoint_path: str | Path,
    strict: bool = True,
    weights_only: bool = True,
    device: str | torch.device = "cpu",
) -> LoadedKeys:
    """Load a weights file of any supported layout into a model, resizing position tables to fit.

    ``strict`` refuses missing and unexpected entries; entries of another shape are refused in any case.
    ``weights_only`` and ``device`` are accepted for older callers: files are always read without running their code, on
    the CPU, and copied to where the model is.

    Returns:
        The tuple (missing keys, unexpected keys) of ``nn.Module.load_state_dict``.

    Raises:
        CheckpointError: the file cannot be read or does not fit the model.
    """
    state_dict = read_state_dict(checkpoint_path)
    with naming_file(checkpoint_path):
        return load_weights(model, state_dict, strict=strict)


def load_big_vision_weights(model: nn.Module, checkpoint_path: str | Path) -> None:
    """Load big_vision's SigLIP weights (``.npz``); ``load_checkpoint`` knows them too and says more.

    Raises:
        CheckpointError: the file cannot be read or does not fit the model.
    """
    load_checkpoint(model, checkpoint_path)


def load_weights(model: nn.Module, state_dict: dict[str, Tensor], strict: bool = True) -> LoadedKeys:
    """Load weights already read into a model; see ``load_checkpoint``."""
    fitted = fit_to_model(state_dict, model)
    shapes = {name: tuple(value.shape) for name, value in fitted.items()}
    try:
        resize_pos_embed(fitted, model)
        resize_text_pos_embed(fitted, model)
    except CheckpointError as error:
        raise WeightsMismatch(f"the weights do not fit the model: {error}", shapes) from None
    problems = list_mismatches(model, fitted, strict)
    if problems:
        raise WeightsMismatch("the weights do not fit the model.\n" + "\n".join(problems), shapes)
    loaded: LoadedKeys = model.load_state_dict(fitted, strict=False)
    return loaded


def list_mismatches(model: nn.Module, state_dict: dict[str, Tensor], strict: bool = True) -> list[str]:
    """Say in a few lines how weights differ from a model's: other shapes or kinds, missing and unexpected names."""
    own = model.state_dict()
    expected = {key: tuple(value.shape) for key, value in own.items()}
    kinds = [
        f"{printable(key, 120)} is of {value.dtype} in the file and of {own[key].dtype} in the model"
        for key, value in state_dict.items()
        if key in own and (value.is_complex() or (own[key].is_floating_point() and not value.is_floating_point()))
    ]
    shapes = [
        f"{printable(key, 120)} is {tuple(value.shape)} in the file and {expected[key]} in the model"
        for key, value in state_dict.items()
        if key in expected and tuple(value.shape) != expected[key]
    ]
    missing = [key for key in expected if key not in state_dict]
    unexpected = [key for key in state_dict if key not in expected]
    lines = []
    if shapes:
        lines.append(f"{len(shapes)} of another shape: {cut_list(shapes)}")
    if kinds:
        lines.append(f"{len(kinds)} of another kind: {cut_list(kinds)}")
    if strict and missing:
        lines.append(f"{len(missing)} missing in the file: {cut_list(missing)}")
    if strict and unexpected:
        lines.append(f"{len(unexpected)} unknown to the model: {cut_list(unexpected)}")
    if lines:
        lines.append("Check that the model name matches the file (quickgelu variants share shapes, sizes do not).")
    return lines
