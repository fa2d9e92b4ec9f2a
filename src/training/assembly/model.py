"""The model of a run, with its transforms, from the flags; loads the weights they name, wraps nothing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

import open_clip
from open_clip.checkpoint import load_weights, read_state_dict
from open_clip.errors import ConfigError, DeviceError
from open_clip.factory.description import Origin
from open_clip.protocols import ComputesAgain, LocksImages, LocksTexts, SharesBatchNorms
from open_clip.transform import Compose
from training.assembly.place import Place
from training.params import LockParams, RunParams

_CANNOT_LOCK = "--lock-{0}: this model has no {0} tower that can be frozen; leave it out."


def build_model(
    params: RunParams, precision: str, torch_device: torch.device, options: Mapping[str, Any]
) -> tuple[Any, Compose, Compose]:
    """Make the model, with locked towers and checkpointing as asked, and its transforms for training and validation.

    Args:
        params: The run's flags.
        precision: As the library names it.
        torch_device: Where the model goes.
        options: What the recipe wants of it.
    """
    model, train, val = open_clip.create_model_and_transforms(
        params.model.model,
        params.model.pretrained or None,
        precision=precision,
        device=torch_device,
        force_quick_gelu=params.model.force_quick_gelu,
        force_custom_text=params.model.force_custom_text,
        force_patch_dropout=params.model.force_patch_dropout,
        force_image_size=image_size(params.model.force_image_size),
        force_context_length=params.model.force_context_length,
        image_mean=tuple(params.image.image_mean) if params.image.image_mean else None,
        image_std=tuple(params.image.image_std) if params.image.image_std else None,
        image_interpolation=params.image.image_interpolation,
        image_resize_mode=params.image.image_resize_mode,
        aug_cfg=params.data.aug_cfg,
        pretrained_image=params.model.pretrained_image,
        cache_dir=params.model.cache_dir,
        output_dict=True,
        # A run that starts from random weights on purpose needs no warning of them.
        load_weights=bool(params.model.pretrained) or ":" in params.model.model,
        **options,
    )
    if params.model.pretrained_ema:
        load_weights(model, read_state_dict(params.model.pretrained, averaged=True))
    _lock_towers(model, params.lock)
    if params.model.grad_checkpointing:
        if not isinstance(model, ComputesAgain):
            raise ConfigError("--grad-checkpointing: this model cannot compute activations again; leave it out.")
        model.set_grad_checkpointing()
    return model, train, val


def refuse_untrained(model: torch.nn.Module) -> None:
    """Refuse to measure a model whose weights are random: the result would be chance and look like one.

    Raises:
        ConfigError: no weights were loaded into it.
    """
    origin = getattr(model, "origin", None)
    if isinstance(origin, Origin) and origin.weights is None:
        raise ConfigError(
            "there are no trained weights to evaluate: give --pretrained FILE or a tag, or --resume FILE; a model "
            "folder (local-dir:) needs a weights file beside its configuration. To train first, give --train-data."
        )


def fit_text_length(params: RunParams, model: Any) -> RunParams:
    """Let the texts of a run be as long as those its model was trained with, unless a flag says otherwise."""
    if params.model.force_context_length is not None:
        return params
    length = model.origin.model_cfg.get("text_cfg", {}).get("context_length")
    return replace(params, model=replace(params.model, force_context_length=length))


def share_batch_norms(model: torch.nn.Module, place: Place) -> torch.nn.Module:
    """Let the batch norms of all processes take their statistics together; a single process has nothing to share.

    Raises:
        DeviceError: the device has no kernel for it.
    """
    if not place.world.is_distributed:
        return model
    if place.device.kind == "cpu":
        raise DeviceError("--use-bn-sync does not work on a CPU: torch has it for accelerators only. Leave it out.")
    for module in list(model.modules()):
        if isinstance(module, SharesBatchNorms):
            module.share_batch_norms()
    shared: torch.nn.Module = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return shared


def image_size(values: list[int] | None) -> int | tuple[int, int] | None:
    """Give the values of ``--force-image-size``, one or two, as the library takes them."""
    if not values:
        return None
    return values[0] if len(values) == 1 else (values[0], values[1])


def _lock_towers(model: torch.nn.Module, lock: LockParams) -> None:
    if lock.lock_image:
        if not isinstance(model, LocksImages):
            raise ConfigError(_CANNOT_LOCK.format("image"))
        model.lock_image_tower(
            unlocked_groups=lock.lock_image_unlocked_groups, freeze_bn_stats=lock.lock_image_freeze_bn_stats
        )
    if lock.lock_text:
        if not isinstance(model, LocksTexts):
            raise ConfigError(_CANNOT_LOCK.format("text"))
        model.lock_text_tower(
            unlocked_layers=lock.lock_text_unlocked_layers, freeze_layer_norm=lock.lock_text_freeze_layer_norm
        )
