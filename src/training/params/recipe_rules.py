"""Checks of the flags that choose recipe and optimizer; those of the others are in `rules`."""

from argparse import Namespace

from open_clip.errors import ConfigError
from training.params.values import shown


def check_recipe(args: Namespace) -> None:
    """Refuse recipes that lack something or contradict each other.

    Raises:
        ConfigError: With the flags and what to change.
    """
    if (args.distill_model is None) != (args.distill_pretrained is None):
        raise ConfigError(
            "--distill-model and --distill-pretrained go together: the teacher's name and its weights, a tag or a file."
        )
    for flag, name, is_given in (
        ("--siglip", "siglip", args.siglip),
        ("--distill-model", "distill", args.distill_model is not None),
    ):
        if is_given and args.task not in (None, name):
            raise ConfigError(f"--task {shown(args.task)} and {flag} contradict each other; leave one out.")
    if args.distill_model is not None and args.siglip:
        raise ConfigError("--siglip and --distill-model contradict each other: distillation is with CLIP's loss.")
    if args.coca_caption_loss_weight == 0 and args.coca_contrastive_loss_weight == 0:
        raise ConfigError(
            "--coca-caption-loss-weight 0 and --coca-contrastive-loss-weight 0 leave no loss; give one a weight."
        )
    if args.pretrained_ema and not args.pretrained:
        raise ConfigError("--pretrained-ema needs --pretrained FILE, a checkpoint of a run with --ema-decay.")


def check_optimizer(args: Namespace) -> None:
    """Refuse settings of the optimizer that are missing or out of their range.

    Raises:
        ConfigError: With the flags and what to change.
    """
    is_timms = args.opt.startswith("timm/") and args.opt != "timm/"
    if not is_timms and args.opt != "adamw":
        raise ConfigError(
            f"--opt {shown(args.opt)}: it can be adamw, or timm/NAME of one of timm's, such as timm/lamb."
        )
    if args.lr is None:
        raise ConfigError(f"--opt {args.opt} needs --lr: each of timm's optimizers wants another learning rate.")
    if (args.beta1 is None) != (args.beta2 is None):
        raise ConfigError("--beta1 and --beta2 go together; give both or neither.")
    if args.min_lr > args.lr:
        raise ConfigError(f"--min-lr {args.min_lr:g} is above --lr {args.lr:g}: the rate would rise; lower --min-lr.")
    if args.ema_decay is not None and args.fsdp:
        raise ConfigError("--ema-decay does not go with --fsdp: the average is kept whole in each process.")


def recipe_flags_without_effect(args: Namespace) -> list[str]:
    """List what a warning should say of flags that this recipe or optimizer does not read."""
    messages = []
    if args.lr == 0:
        messages.append("--lr 0: nothing is learned.")
    if args.min_lr and (args.lr_scheduler != "cosine" or args.skip_scheduler):
        messages.append("--min-lr has no effect without --lr-scheduler cosine.")
    if args.loss_dist_impl is not None and not args.siglip:
        messages.append("--loss-dist-impl has no effect without --siglip.")
    if args.momentum is not None and not args.opt.startswith("timm/"):
        messages.append(f"--momentum has no effect with --opt {args.opt}.")
    if args.distill_own_normalization and args.distill_model is None:
        messages.append("--distill-own-normalization has no effect without --distill-model.")
    return messages
