"""Flags of the optimizer and of the learning-rate schedule."""

from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any

from open_clip.errors import ConfigError
from training.params.flags import Flag, KeyValueAction, flag
from training.params.values import ABOVE_ZERO, lower_text, number, whole


@dataclass(frozen=True)
class OptimParams:
    """Optimizer."""

    opt: str = flag(
        "adamw", "which optimizer: adamw, or timm/NAME for one of timm's, such as timm/lamb", type=lower_text
    )
    lr: float | None = flag(None, "peak learning rate (default: 5e-4)", type=number(0.0))
    beta1: float | None = flag(None, "AdamW's first moment decay (default: 0.9)", type=number(0.0, below=1.0))
    beta2: float | None = flag(
        None, "AdamW's second moment decay (default: 0.98 for ViT models, else 0.999)", type=number(0.0, below=1.0)
    )
    eps: float | None = flag(None, "AdamW's epsilon (default: 1e-6 for ViT models, else 1e-8)", type=number(0.0))
    wd: float = flag(0.2, "weight decay; --decay-rule says of what", type=number(0.0))
    decay_rule: str | None = flag(
        None,
        "what is not decayed: openclip: gains, biases and the logit scale; cn: as Chinese-CLIP, which tells them by "
        "name and so decays norms of BERT; mae: besides gains and biases the tokens and position tables that the model "
        "names; all: nothing (default: the recipe's, mostly openclip)",
        choices=("openclip", "cn", "all", "mae"),
    )
    grad_clip_norm: float | None = flag(
        None, "clip the gradient to this norm; no clipping if not given", type=ABOVE_ZERO
    )
    momentum: float | None = flag(None, "momentum of a timm optimizer (default: the optimizer's own)", type=number(0.0))
    opt_kwargs: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "flag": Flag(
                help="further arguments of the optimizer, for example amsgrad=True",
                nargs="*",
                action=KeyValueAction,
                metavar="KEY=VALUE",
            )
        },
    )
    wd_exclude: list[str] | None = flag(
        None,
        "parameters that are not decayed either, as patterns of their names, such as '*positional_embedding'",
        nargs="*",
        metavar="PATTERN",
    )
    image_layer_decay: float | None = flag(
        None,
        "factor of the learning rate from each layer of the image tower to the one before it; 0.65 to 0.9 keeps what"
        " pretrained weights know",
        aliases=("--visual-layer-decay",),
        type=number(above=0.0, most=1.0),
    )
    text_layer_decay: float | None = flag(None, "the same for the text tower", type=number(above=0.0, most=1.0))
    ema_decay: float | None = flag(
        None,
        "keep a moving average of the weights, of which a step keeps this share (0.999 for some thousand steps, 0.9999"
        " for more), and evaluate it in their place; no average if not given",
        type=number(above=0.0, below=1.0),
    )
    accum_freq: int = flag(
        1, "batches of one optimizer step; the contrastive loss sees all of them together", type=whole(1)
    )


@dataclass(frozen=True)
class ScheduleParams:
    """Schedule."""

    epochs: int | None = flag(None, "passes over the training data (default: 32)", type=whole(1))
    max_steps: int | None = flag(
        None,
        "optimizer steps to train, in place of --epochs; the last epoch ends early where they ask for it",
        type=whole(1),
    )
    warmup: int | None = flag(None, "optimizer steps of linear warm-up (default: 10000)", type=whole())
    lr_warmup_share: float | None = flag(
        None,
        "warm-up as a share of all steps, 0.01 for one in a hundred; with --warmup too, the longer of both",
        type=number(0.0, most=1.0),
    )
    lr_scheduler: str = flag(
        "cosine", "shape of the learning rate after warm-up", choices=("cosine", "const", "const-cooldown")
    )
    min_lr: float = flag(0.0, "learning rate at which cosine ends", type=number(0.0))
    epochs_cooldown: int | None = flag(None, "epochs of the final cooldown of const-cooldown", type=whole())
    lr_cooldown_end: float = flag(0.0, "learning rate at the end of the cooldown", type=number(0.0))
    lr_cooldown_power: float = flag(1.0, "power of the cooldown's polynomial; 1 is linear", type=number(0.0))
    skip_scheduler: bool = flag(False, "keep the learning rate at --lr from the first step")


def settle_length(args: Namespace, typed: Namespace) -> None:
    """Leave a run one length and one warm-up: what is typed wins over a file of settings, defaults fill the rest.

    Args:
        args: All settings; changed in place.
        typed: Those of the command line alone.

    Raises:
        ConfigError: Epochs and steps come from the same place.
    """
    if args.epochs is not None and args.max_steps is not None:
        if (typed.epochs is None) == (typed.max_steps is None):
            raise ConfigError("--epochs and --max-steps both say how long to train: leave one of them out.")
        setattr(args, "epochs" if typed.epochs is None else "max_steps", None)
    if args.epochs is None and args.max_steps is None:
        args.epochs = 32
    if args.warmup is None:
        args.warmup = 10000 if args.lr_warmup_share is None else 0
