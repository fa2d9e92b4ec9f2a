"""Look at what the flags name before anything is built: model, data, weights. Reads a few bytes of each at most."""

import os

from open_clip.errors import CheckpointError, ConfigError, DataError, naming, printable, suggest_nearest
from open_clip.factory.names import HUB_SCHEME, LOCAL_DIR_SCHEME
from open_clip.factory.source import find_source
from open_clip.families import find_family
from open_clip.families.base import Forced
from open_clip.protocols import WritesCaptions
from open_clip.transform.config import read_augmentation
from training.assembly.fields import sketch_fields, streamed_texts
from training.assembly.model import image_size
from training.assembly.task import choose_recipe
from training.checkpoint import is_remote
from training.data import SourceRequest, columns_of, find_kind, image_columns_of, name_field
from training.data.source import MissingColumns
from training.distributed import World
from training.params import RunParams
from training.report.tensorboard import find_tensorboard, wants_tensorboard
from training.tasks import Task


def check_inputs(params: RunParams, world: World) -> None:
    """Refuse what would fail later, cheapest first: settings, data, weights; every process does it for itself.

    Raises:
        ConfigError: A setting does not fit the model, or nothing could be learned with it.
        DataError: Data is not there, of another kind, or without the columns it needs.
        CheckpointError: Weights are not there.
        MissingDependency: A further report needs a package that is not installed.
    """
    recipe = _check_model(params, world)
    if wants_tensorboard(params.report.report_to):
        find_tensorboard()
    _check_columns(params, recipe)
    for role, path in (("train", params.data.train_data), ("val", params.data.val_data)):
        if path:
            with naming(f"--{role}-data"):
                _check_data(path, role, params, recipe)
    for flag, folder in (
        ("--imagenet-val", params.evaluate.imagenet_val),
        ("--imagenet-v2", params.evaluate.imagenet_v2),
    ):
        if folder and params.evaluate.zeroshot_frequency and not os.path.isdir(folder):
            raise DataError(
                f"{flag} {printable(folder, 300)} is no folder. It holds one folder of images for each class."
            )
    _check_weights(params)


def _check_model(params: RunParams, world: World) -> type[Task]:
    """Check settings, model and recipe; return the recipe, of which a model on the hub may still want another."""
    with naming("--aug-cfg"):
        read_augmentation(params.data.aug_cfg)
    if params.model.model.startswith(HUB_SCHEME):
        return choose_recipe(params, writes_captions=False)
    model_cfg = find_source(params.model.model, None, load_weights=False).model_cfg
    size, length = image_size(params.model.force_image_size), params.model.force_context_length
    model_cfg = find_family(model_cfg).apply_options(model_cfg, Forced(image_size=size, context_length=length))
    writes_captions = issubclass(find_family(model_cfg).model_class, WritesCaptions)
    recipe = choose_recipe(params, writes_captions=writes_captions)
    recipe.check(params, world)
    return recipe


def _check_columns(params: RunParams, recipe: type[Task]) -> None:
    fields = [field for role in ("train", "val") for field in sketch_fields(recipe, role, params)]
    read = columns_of(fields)
    for name, own in params.data.own_names.items():
        if name not in read:
            raise ConfigError(
                f"--columns {name}={printable(own, 200)}: the recipe {recipe.name} reads no column {name!r}."
                f"{suggest_nearest(name, read)} It reads: {', '.join(read)}."
            )


def _check_data(path: str, role: str, params: RunParams, recipe: type[Task]) -> None:
    fields = sketch_fields(recipe, role, params)
    columns, image_columns = columns_of(fields), image_columns_of(fields)
    request = SourceRequest(path, role, params.data, params.shards, columns, image_columns)
    kind = find_kind(request)
    if role == "train" and params.shards.shard_order == "buffer":
        if not kind.can_stream:
            raise ConfigError("--shard-order buffer needs tar shards as --train-data.")
        streamed_texts(recipe.name, fields)
    if kind.needs_path:
        try:
            kind.check(request)
        except MissingColumns as error:
            raise name_field(error, recipe.name, fields) from None


def _check_weights(params: RunParams) -> None:
    recipe, resumed = params.recipe, params.checkpoint.resume
    named = ((params.model.model, params.model.pretrained), (recipe.distill_model, recipe.distill_pretrained))
    for model, weights in named:
        # A folder and a repository bring their own.
        if model and weights and not model.startswith((HUB_SCHEME, LOCAL_DIR_SCHEME)):
            find_source(model, weights, load_weights=False)
    if resumed is not None and resumed != "latest" and not is_remote(resumed) and not os.path.exists(resumed):
        raise CheckpointError(
            f"--resume {printable(resumed, 300)}: there is no such file or folder. Give the path of a checkpoint, or "
            "`latest` for the newest of --name."
        )
