"""Checks of the flags that choose recipe and optimizer; those of the others are in `rules`."""

import math
from argparse import Namespace

from open_clip.errors import ConfigError


def check_recipe(args: Namespace) -> None:
    """Refuse recipes that lack something or contradict each other.

    Raises:
        ConfigError: With the flags and what to change.
    """
    if (args.distill_model is None) != (args.distill_pretrained is None):
        raise ConfigError(
            "--distill-model and --distill-pretrained go together: the teacher's name and its weights, a tag or a file."
        )
    if args.distill_model is not None and args.siglip:
        raise ConfigError("--siglip and --distill-model contradict each other: distillation is with CLIP's loss.")
    for name in ("coca_caption_loss_weight", "coca_contrastive_loss_weight"):
        if not (math.isfinite(getattr(args, name)) and getattr(args, name) >= 0):
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be a number from 0 up.")
    if args.loss_tile_rows is not None and args.loss_tile_rows < 0:
        raise ConfigError(f"--loss-tile-rows is {args.loss_tile_rows}; it is a number of rows, or 0 for no tiles.")
    if args.pretrained_ema and not args.pretrained:
        raise ConfigError("--pretrained-ema needs --pretrained FILE, a checkpoint of a run with --ema-decay.")


def check_optimizer(args: Namespace) -> None:
    """Refuse settings of the optimizer that are missing or out of their range.

    Raises:
        ConfigError: With the flags and what to change.
    """
    is_timms = args.opt.startswith("timm/") and args.opt != "timm/"
    if not is_timms and args.opt != "adamw":
        raise ConfigError(f"--opt {args.opt}: it can be adamw, or timm/NAME for one of timm's, such as timm/lamb.")
    if args.lr is None:
        raise ConfigError(f"--opt {args.opt} needs --lr: each of timm's optimizers wants another learning rate.")
    if (args.beta1 is None) != (args.beta2 is None):
        raise ConfigError("--beta1 and --beta2 go together; give both or neither.")
    if args.ema_decay is not None and not 0 < args.ema_decay < 1:
        raise ConfigError(f"--ema-decay is {args.ema_decay}; it is a share between 0 and 1, such as 0.9999.")
    if args.ema_decay is not None and args.fsdp:
        raise ConfigError("--ema-decay does not go with --fsdp: the average is kept whole in each process.")
    for name in ("image_layer_decay", "text_layer_decay"):
        factor = getattr(args, name)
        if factor is not None and not 0 < factor <= 1:
            raise ConfigError(
                f"--{name.replace('_', '-')} is {factor}; it is a factor above 0 and up to 1, such as 0.8."
            )


def recipe_flags_without_effect(args: Namespace) -> list[str]:
    """List what a warning should say of flags that this recipe or optimizer does not read."""
    messages = []
    if args.loss_dist_impl is not None and not args.siglip:
        messages.append("--loss-dist-impl has no effect without --siglip.")
    if args.momentum is not None and not args.opt.startswith("timm/"):
        messages.append(f"--momentum has no effect with --opt {args.opt}.")
    if args.distill_own_normalization and args.distill_model is None:
        messages.append("--distill-own-normalization has no effect without --distill-model.")
    return messages
