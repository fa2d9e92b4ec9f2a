"""Choosing the loss that a trainer's flags ask for. Computing it is ``open_clip.loss``'s job."""

from typing import Any

from open_clip.errors import CheckpointError, ConfigError
from open_clip.factory.names import get_model_config
from open_clip.loss import ClipLoss, CoCaLoss, DistillClipLoss, SigLipLoss
from open_clip.model import CoCa


def create_loss(args: Any, model: Any = None) -> ClipLoss | SigLipLoss:
    """Make the loss for a trainer's flags: distillation, CoCa for a model that is one, ``siglip``, else CLIP's.

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
    if _is_coca(args.model, model):
        return CoCaLoss(
            caption_loss_weight=args.coca_caption_loss_weight,
            clip_loss_weight=args.coca_contrastive_loss_weight,
            **options,
        )
    if getattr(args, "siglip", False):
        return SigLipLoss(**ranks, dist_impl=getattr(args, "loss_dist_impl", None), chunk_size=options["tile_rows"])
    return ClipLoss(**options)


def _is_coca(name: str, model: Any) -> bool:
    if model is not None:
        return isinstance(getattr(model, "module", model), CoCa)
    try:
        cfg = get_model_config(name)
    except (CheckpointError, ConfigError, FileNotFoundError):
        cfg = None
    return "coca" in name.lower() if cfg is None else cfg.get("multimodal_cfg") is not None
