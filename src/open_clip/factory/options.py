"""The ``force_*`` options and keyword arguments of ``create_model``, applied to a model configuration."""

from typing import Any

from open_clip.errors import ConfigError, suggest_nearest
from open_clip.families import find_family
from open_clip.families.base import Forced


def apply_options(
    model_cfg: dict[str, Any],
    model_kwargs: dict[str, Any],
    *,
    force_quick_gelu: bool = False,
    force_custom_text: bool = False,
    force_patch_dropout: float | None = None,
    force_image_size: int | tuple[int, int] | None = None,
    force_context_length: int | None = None,
) -> dict[str, Any]:
    """Return a copy of a model configuration with the options and the top-level ``model_kwargs`` written into it.

    Raises:
        ConfigError: an argument is not one a model of this family takes.
    """
    family = find_family(model_cfg)
    known = family.option_names()
    for key in model_kwargs:
        if key not in known:
            raise ConfigError(f"create_model: no model takes {key!r}.{suggest_nearest(key, known)}")
    forced = Forced(
        quick_gelu=force_quick_gelu,
        custom_text=force_custom_text,
        patch_dropout=force_patch_dropout,
        image_size=force_image_size,
        context_length=force_context_length,
    )
    return family.apply_options(model_cfg, forced) | model_kwargs
