"""Flags of the optimizer and of the learning-rate schedule."""

from dataclasses import dataclass, field
from typing import Any

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

    epochs: int = flag(32, "passes over the training data", type=whole(1))
    warmup: int = flag(10000, "optimizer steps of linear warm-up", type=whole())
    lr_scheduler: str = flag(
        "cosine", "shape of the learning rate after warm-up", choices=("cosine", "const", "const-cooldown")
    )
    epochs_cooldown: int | None = flag(None, "epochs of the final cooldown of const-cooldown", type=whole())
    lr_cooldown_end: float = flag(0.0, "learning rate at the end of the cooldown", type=number(0.0))
    lr_cooldown_power: float = flag(1.0, "power of the cooldown's polynomial; 1 is linear", type=number(0.0))
    skip_scheduler: bool = flag(False, "keep the learning rate at --lr from the first step")
