"""Models, optimizers and inputs that several rows use, made by each side's own public names."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.settings import Side

_CONFIGS = Path(__file__).resolve().parents[2] / "src" / "open_clip" / "model_configs"
# Defaults of both trainers for ViT models.
LR, BETAS, EPS, WD = 5e-4, (0.9, 0.98), 1e-6, 0.2


def make_model(name: str, side: Side, **options: Any) -> Any:
    """Build a model with its first weights, the same on both sides for a seed."""
    import open_clip

    if side == "peer" and name not in open_clip.list_models():
        # The small models of the tests are not among the peer's.
        open_clip.add_model_config(_CONFIGS / f"{name}.json")
    return open_clip.create_model(name, **options)


def model_inputs(name: str, model: Any) -> tuple[Any, int]:
    """Return the tokenizer of a model and the side of its images."""
    import open_clip

    size = model.visual.image_size
    return open_clip.get_tokenizer(name), int(size if isinstance(size, int) else size[0])


def make_images(count: int, size: int, seed: int) -> torch.Tensor:
    """Make normalised images up, float32 [count, 3, size, size]."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def make_adamw(model: torch.nn.Module, side: Side, device: str = "cpu", lr: float = LR) -> torch.optim.Optimizer:
    """Make the optimizer as each side's trainer does: gains, biases and the logit scale are not decayed."""
    if side == "ours":
        from training.device import select_device
        from training.optim import build_optimizer
        from training.params import OptimParams

        return build_optimizer(
            model, OptimParams(lr=lr, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, wd=WD), select_device(device)
        )
    plain: list[torch.nn.Parameter] = []
    decayed: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        words = ("bn", "ln", "bias", "logit_scale")
        is_plain = parameter.ndim < 2 or any(word in name for word in words)
        (plain if is_plain else decayed).append(parameter)
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": WD}]
    return torch.optim.AdamW(groups, lr=lr, betas=BETAS, eps=EPS)
