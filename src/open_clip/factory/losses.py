"""Choosing the loss that a trainer's flags ask for. Computing it is ``open_clip.loss``'s job."""

from typing import Any

from open_clip.errors import ConfigError
from open_clip.loss import ClipLoss, DistillClipLoss


def create_loss(args: Any) -> ClipLoss:
    """Make the loss for the flags ``distill, model, siglip, local_loss, gather_with_grad, rank, world_size``.

    Raises:
        ConfigError: the flags ask for a loss that this version does not have.
    """
    options = {
        "local_loss": args.local_loss,
        "gather_with_grad": args.gather_with_grad,
        "cache_labels": True,
        "rank": args.rank,
        "world_size": args.world_size,
    }
    if args.distill:
        return DistillClipLoss(**options)
    if "coca" in args.model.lower():
        raise ConfigError(f"--model {args.model}: CoCa's loss is not supported yet.")
    if getattr(args, "siglip", False):
        raise ConfigError("--siglip: SigLIP's loss is not supported yet.")
    return ClipLoss(**options)
