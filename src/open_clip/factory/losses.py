"""Choosing the loss that a trainer's flags ask for. Computing it is ``open_clip.loss``'s job."""

from typing import Any

from torch import nn

from open_clip.errors import CheckpointError, ConfigError
from open_clip.factory.names import get_model_config
from open_clip.families import family_of, find_family
from open_clip.families.base import Family
from open_clip.loss import ClipLoss, DistillClipLoss, SigLipLoss


def create_loss(args: Any, model: nn.Module | None = None) -> ClipLoss | SigLipLoss:
    """Make the loss for a trainer's flags: distillation, else the one of the model's family (CoCa's, SigLIP's, CLIP's).

    What the model is, ``model`` says (wrapped or not), else the configuration of ``args.model``; the name counts only
    when there is no such configuration.

    Reads ``distill, model, local_loss, gather_with_grad, rank, world_size`` and, where they matter, ``siglip``,
    ``loss_dist_impl``, ``loss_tile_rows``, ``coca_caption_loss_weight`` and ``coca_contrastive_loss_weight``.

    Raises:
        ConfigError: ``loss_dist_impl`` is not known.
    """
    ranks = {"cache_labels": True, "rank": args.rank, "world_size": args.world_size}
    options = {"local_loss": args.local_loss, "gather_with_grad": args.gather_with_grad, **ranks}
    options["tile_rows"] = getattr(args, "loss_tile_rows", None)
    if args.distill:
        return DistillClipLoss(**options)
    return _choose_family(args.model, model).create_loss(args, ranks, options)


def _choose_family(name: str, model: nn.Module | None) -> Family:
    if model is not None:
        # Another model is scored as a CLIP is.
        return family_of(getattr(model, "module", model)) or find_family({})
    try:
        cfg = get_model_config(name)
    except (CheckpointError, ConfigError, FileNotFoundError):
        cfg = None
    if cfg is None:
        cfg = {"family": "coca"} if "coca" in name.lower() else {}
    return find_family(cfg)
