"""Optimizers made by timm, an optional package that is imported when one is asked for."""

import torch

from open_clip.errors import ConfigError, MissingDependency, suggest_nearest
from open_clip.extras import install_advice
from training.optim.groups import Group


def build_timm_optimizer(
    parameters: torch.nn.Module | list[Group], name: str, options: dict[str, object]
) -> torch.optim.Optimizer:
    """Make one of timm's optimizers.

    Args:
        parameters: A model, of which timm decays what it decays itself (nothing of one dimension, nothing that
            ``no_weight_decay`` names), or finished groups.
        name: Its name in timm.
        options: Its arguments; lr, weight_decay, betas and the like.

    Raises:
        ConfigError: timm has no such optimizer, or it refuses an argument.
        MissingDependency: timm is not installed.
    """
    try:
        from timm.optim import create_optimizer_v2, list_optimizers
    except (ImportError, RuntimeError) as error:
        raise MissingDependency(
            f"--opt timm/{name} comes from timm, which cannot be imported ({error}): {install_advice('timm')}."
        ) from error
    known = list_optimizers()
    if name not in known:
        raise ConfigError(f"--opt timm/{name}: timm has no optimizer of this name.{suggest_nearest(name, known)}")
    try:
        made: torch.optim.Optimizer = create_optimizer_v2(parameters, name, **options)
    except (TypeError, ValueError, AssertionError) as error:
        given = ", ".join(f"{key}={value}" for key, value in options.items())
        raise ConfigError(f"--opt timm/{name} refuses its arguments ({given}): {error}.") from error
    return made
