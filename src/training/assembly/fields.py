"""The fields of a run's batches, from the recipe and the flags. Opens no data."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

import torch

import open_clip
from open_clip.errors import ConfigError
from open_clip.transform import Compose, to_uint8
from training.data import IMAGES, TEXTS, Field, FieldKit, TextField, TextPlanner
from training.data.source import IMAGE, TEXT
from training.params import RunParams
from training.tasks import Task


def sketch_fields(recipe: type[Task], role: str, params: RunParams) -> Sequence[Field]:
    """Make a recipe's fields before there is a model: good for their names and columns, and for reading nothing.

    Raises:
        ConfigError: Two of them have one name.
    """
    fields = recipe.fields(FieldKit(role, _not_yet, lambda: _not_yet), params)
    names = [field.name for field in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"recipe {recipe.name}: two of its fields are called {twice[0]!r}, and a batch holds one of a name. Give "
            "each its own `name`."
        )
    return fields


def _not_yet(*arguments: object) -> NoReturn:
    raise RuntimeError("a sketched field reads nothing")


def make_kit(
    params: RunParams, transform: Compose, role: str, make_planner: Callable[[], TextPlanner | None] = lambda: None
) -> FieldKit:
    """Make what the recipe makes its fields with, for rows of a role: ``train`` or ``val``."""
    return FieldKit(
        role,
        leave_normalisation(transform),
        partial(make_tokenizer, params),
        make_planner,
        max_pixels=params.data.max_image_pixels,
        # Figures of evaluation stay comparable whatever a run trains on.
        pixels="near" if role == "train" and params.data.image_pixels == "near" else "exact",
    )


def make_tokenizer(params: RunParams) -> Callable[..., torch.Tensor]:
    """Make the tokenizer of the model that the flags name."""
    tokenizer: Callable[..., torch.Tensor] = open_clip.get_tokenizer(
        params.model.model, context_length=params.model.force_context_length, cache_dir=params.model.cache_dir
    )
    return tokenizer


def leave_normalisation(transform: Compose) -> Compose:
    """Leave normalisation to the device where the transform allows it; timm's pipelines stay whole."""
    try:
        return to_uint8(transform)
    except ConfigError:
        return transform


def streamed_texts(recipe: str, fields: Sequence[Field]) -> TextField:
    """Give the field of captions of a recipe that a stream can serve: it holds images and captions alone.

    Raises:
        ConfigError: The recipe's batches need something else.
    """
    for field in fields:
        if (field.name, field.columns) not in ((IMAGES, (IMAGE,)), (TEXTS, (TEXT,))):
            raise ConfigError(
                f"recipe {recipe}: field {field.name!r} reads {', '.join(field.columns)}, and --shard-order buffer "
                "streams images and captions alone. Leave it out: rows are then read by position, with all columns."
            )
    texts = [field for field in fields if isinstance(field, TextField)]
    if len(texts) != 1 or len(fields) != 2:
        raise ConfigError(f"recipe {recipe}: --shard-order buffer streams images with their captions. Leave it out.")
    return texts[0]
