"""Flags of the optimizer and of the learning-rate schedule."""

from dataclasses import dataclass

from training.params.flags import flag


@dataclass(frozen=True)
class OptimParams:
    """Optimizer."""

    opt: str = flag("adamw", "which optimizer", choices=("adamw",))
    lr: float | None = flag(None, "peak learning rate (default: 5e-4)", type=float)
    beta1: float | None = flag(None, "AdamW's first moment decay (default: 0.9)", type=float)
    beta2: float | None = flag(
        None, "AdamW's second moment decay (default: 0.98 for ViT models, else 0.999)", type=float
    )
    eps: float | None = flag(None, "AdamW's epsilon (default: 1e-6 for ViT models, else 1e-8)", type=float)
    wd: float = flag(0.2, "weight decay; not applied to gains, biases and the logit scale")
    grad_clip_norm: float | None = flag(None, "clip the gradient to this norm; no clipping if not given", type=float)
    accum_freq: int = flag(1, "batches of one optimizer step; the contrastive loss sees all of them together")


@dataclass(frozen=True)
class ScheduleParams:
    """Schedule."""

    epochs: int = flag(32, "passes over the training data")
    warmup: int = flag(10000, "optimizer steps of linear warm-up")
    lr_scheduler: str = flag(
        "cosine", "shape of the learning rate after warm-up", choices=("cosine", "const", "const-cooldown")
    )
    epochs_cooldown: int | None = flag(None, "epochs of the final cooldown of const-cooldown", type=int)
    lr_cooldown_end: float = flag(0.0, "learning rate at the end of the cooldown")
    lr_cooldown_power: float = flag(1.0, "power of the cooldown's polynomial; 1 is linear")
    skip_scheduler: bool = flag(False, "keep the learning rate at --lr from the first step")
