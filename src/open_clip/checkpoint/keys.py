"""The layouts weights come in, brought to one. Nothing is read from disk here.

Source: open_clip.factory.load_state_dict and load_checkpoint (3.3.0).
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from open_clip.checked_json import JsonObject
from open_clip.checkpoint.big_vision import convert_big_vision_state_dict, is_big_vision
from open_clip.checkpoint.mobileclip import convert_mobile_clip, is_mobile_clip
from open_clip.checkpoint.transformers import convert_transformers_weights, is_transformers
from open_clip.errors import CheckpointError, ConfigError, printable

_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
# A mask is built, not learned; only TorchScript archives hold it.
_DERIVED = "attn_mask"
# transformers keeps these in files until 4.31.
_POSITION_IDS = "text.transformer.embeddings.position_ids"
# What DDP and torch.compile put before every name.
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")
# One name of a million prefixes would take hours.
_MAX_WRAPPERS = 8
_SCALE = "logit_scale"
# Under which names trainers keep the weights in a checkpoint; the first one is upstream's.
_CONTAINERS = ("state_dict", "model", "model_state_dict", "module")
_MAX_CONTAINERS = 2
_TEXT_PARTS = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")


def drop_openai_extras(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the three sizes and the mask that OpenAI's archives keep among the weights."""
    extras = (*_OPENAI_EXTRAS, _DERIVED, f"text.{_DERIVED}")
    return {key: value for key, value in state_dict.items() if key not in extras}


def _strip_wrapper_prefixes(weights: JsonObject) -> JsonObject:
    """Take ``module.`` and ``_orig_mod.`` off, up to a few times, then what a trainer put before all.

    Lightning and others keep a model as ``model.`` or ``net.clip.``: what stands before ``logit_scale`` goes when every
    key begins with it.
    """
    for _ in range(_MAX_WRAPPERS if weights else 0):
        first = next(iter(weights))
        prefix = next((prefix for prefix in _WRAPPER_PREFIXES if first.startswith(prefix)), None)
        if prefix is None:
            break
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    scales = [key for key in weights if isinstance(key, str) and key.endswith(f".{_SCALE}")]
    prefix = scales[0].removesuffix(_SCALE) if len(scales) == 1 else ""
    if prefix and all(isinstance(key, str) and key.startswith(prefix) for key in weights):
        return {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _unwrap(checkpoint: JsonObject) -> JsonObject:
    """Take weights out of their container, and that out of another one: a trainer's may hold a framework's."""
    for _ in range(_MAX_CONTAINERS):
        name = next((name for name in _CONTAINERS if isinstance(checkpoint.get(name), dict)), None)
        if name is None:
            break
        checkpoint = checkpoint[name]
    return checkpoint


def normalise_state_dict(checkpoint: JsonObject) -> dict[str, Tensor]:
    """Take the weights out of whatever a checkpoint file holds, as a flat dict of tensors with plain names.

    Raises:
        CheckpointError: what is there is not a dict of tensors.
    """
    weights = _unwrap(checkpoint)
    if not weights:
        raise CheckpointError("holds no weights: its state_dict is empty.")
    for key, value in weights.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"holds no plain weights: entry {printable(repr(key), 120)} is no tensor but of type "
                f"{type(value).__name__}. Expected a state dict or a training checkpoint with one under 'state_dict'."
            )
    return drop_openai_extras(_strip_wrapper_prefixes(weights))


def convert_state_dict(model: nn.Module, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring weights in another project's layout into ours, for ``model``; weights in ours pass through.

    Knows Apple's MobileCLIP, big_vision's SigLIP and transformers' CLIP, by their names.

    Raises:
        CheckpointError: the model is of another kind than the weights, or they are not whole.
    """
    try:
        if is_mobile_clip(state_dict):
            return convert_mobile_clip(model, state_dict)
        if is_big_vision(state_dict):
            return convert_big_vision_state_dict(model, state_dict)
        if is_transformers(state_dict):
            return convert_transformers_weights(state_dict)
    except ConfigError as error:
        raise CheckpointError(f"these are weights in transformers' layout; {error}") from error
    except (CheckpointError, ImportError, MemoryError):
        raise
    except Exception as error:
        # timm and torch cut and join what should be there, and answer what is not with half a dozen kinds of errors.
        reason = printable(" ".join(f"{type(error).__name__}: {error}".split()), 200)
        raise CheckpointError(
            f"these are weights of another project, and an entry is missing or of another form than it has there "
            f"({reason}). Fetch them again."
        ) from error
    return state_dict


def convert_to_custom_text_state_dict(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Move text weights at the top level under ``text.``; weights that have no text projection pass through."""
    if "text_projection" not in state_dict and "text_projection.weight" not in state_dict:
        return state_dict
    return {f"text.{key}" if key.startswith(_TEXT_PARTS) else key: value for key, value in state_dict.items()}


@runtime_checkable
class ConvertsWeights(Protocol):
    """A model of a family that knows layouts of its own; see ``convert_state_dict`` for those of no family."""

    def convert_weights(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Bring weights in another layout into this model's; weights in its own pass through.

        Raises:
            CheckpointError: the model is of another kind than the weights, or they are not whole.
        """


def convert_for(model: nn.Module, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring weights in any layout that the model's family or this room knows into the model's own."""
    if isinstance(model, ConvertsWeights):
        return model.convert_weights(state_dict)
    return convert_state_dict(model, state_dict)


def fit_to_model(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Adapt names and scalar shapes of older or sibling layouts to ``model``; shapes of weights are left alone."""
    fitted = dict(convert_for(model, state_dict))
    # What a model builds anew each time (masks, position ids) is no part of its state, though older files hold it.
    expected = model.state_dict()
    derived = {name for name, _ in model.named_buffers()} - expected.keys() | ({_POSITION_IDS} - expected.keys())
    fitted = {name: value for name, value in fitted.items() if name not in derived}
    for name in ("logit_scale", "logit_bias"):
        target = expected.get(name)
        if target is None:
            continue
        # A scalar is [] in most files and [1] where it had to be sharded.
        if name in fitted and fitted[name].numel() == target.numel():
            fitted[name] = fitted[name].reshape(target.shape)
        elif name == "logit_bias" and name not in fitted:
            # Weights trained without a bias are fine-tuned with one: at zero it changes no score.
            fitted[name] = torch.zeros_like(target, device="cpu")
    return fitted
