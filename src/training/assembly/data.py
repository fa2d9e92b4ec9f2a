"""The data of a run from the flags: sources, loaders, and what becomes of unusable rows."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

import open_clip
from open_clip.errors import ConfigError, DataError, cut_list, naming, printable
from open_clip.transform import to_uint8
from training.assembly.place import Place
from training.assembly.shards import build_stream_loader
from training.data import (
    IMAGES,
    TEXTS,
    Batch,
    EvalLoader,
    Fault,
    Field,
    FieldKit,
    ImageField,
    LabelField,
    Quarantine,
    RowDataset,
    Source,
    SourceRequest,
    TextField,
    TextPlanner,
    TrainLoader,
    columns_of,
    make_eval_loader,
    make_train_loader,
    name_field,
    open_source,
    read_class_folder,
    rgb_first,
)
from training.data.cores import usable_workers
from training.data.source import IMAGE, TEXT, MissingColumns
from training.distributed import gather_objects
from training.evaluate import ClassSet, read_class_names
from training.params import RunParams
from training.tasks import Task

_LOG = logging.getLogger(__name__)
_NUM_TRIED = 8


def sketch_fields(recipe: type[Task], role: str, params: RunParams) -> Sequence[Field]:
    """Make a recipe's fields before there is a model: good for their names and columns, and for reading nothing."""
    return recipe.fields(FieldKit(role, _not_yet, lambda: _not_yet), params)


def _not_yet(*arguments: object) -> Any:
    raise RuntimeError("a sketched field reads nothing")


def make_receive(
    place: Place, quarantine: Quarantine | None, *, enforce_budget: bool = True
) -> Callable[[Batch], Batch]:
    """Make the function that accounts for a batch's unusable rows and brings it to the device.

    Args:
        place: Where batches go.
        quarantine: What lists the rows.
        enforce_budget: Raise when this process alone has met too many; else the count of all processes decides.
    """

    def receive(batch: Batch) -> Batch:
        place.headway()
        if batch.faults and quarantine is not None and quarantine.record(batch.faults, enforce=enforce_budget):
            _LOG.warning("%d unusable rows so far, the last: %s", quarantine.count, batch.faults[-1])
        return batch.to(place.torch_device, non_blocking=place.device.pin_memory)

    return receive


def make_tokenizer(params: RunParams) -> Callable[..., torch.Tensor]:
    """Make the tokenizer of the model that the flags name."""
    tokenizer: Callable[..., torch.Tensor] = open_clip.get_tokenizer(
        params.model.model, context_length=params.model.force_context_length, cache_dir=params.model.cache_dir
    )
    return tokenizer


def _image_size(transform: Any) -> tuple[int, int]:
    """Return (height, width) of what a transform makes; 224 where it does not say."""
    size = getattr(next(iter(getattr(transform, "transforms", ())), None), "size", None)
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else (224, 224)


def _pixels(transform: Any) -> Any:
    """Leave normalisation to the device where the transform allows it; timm's pipelines stay whole."""
    try:
        return to_uint8(transform)
    except ConfigError:
        return transform


def _make_kit(
    params: RunParams, transform: Any, role: str, make_planner: Callable[[], TextPlanner | None] = lambda: None
) -> FieldKit:
    return FieldKit(
        role,
        _pixels(transform),
        partial(make_tokenizer, params),
        make_planner,
        max_pixels=params.data.max_image_pixels,
        # Figures of evaluation stay comparable whatever a run trains on.
        pixels="near" if role == "train" and params.data.image_pixels == "near" else "exact",
    )


def _open_source(
    params: RunParams, place: Place, transform: Any, role: str, recipe: str, fields: Sequence[Field]
) -> tuple[Source, Quarantine]:
    """Read what a data flag names and hold the rows that are refused there against the budget."""
    path = params.data.train_data if role == "train" else params.data.val_data
    request = SourceRequest(
        path or "",
        role,
        params.data,
        params.shards,
        columns=columns_of(fields),
        image_size=_image_size(transform),
        rank=place.world.rank,
        world_size=place.world.world_size,
        gather=lambda own: gather_objects(own, place.world),
    )
    with naming(f"--{role}-data"):
        try:
            source = open_source(request)
        except MissingColumns as error:
            raise name_field(error, recipe, fields) from None
        quarantine = Quarantine(
            place.folder.bad_samples, num_samples=source.num_rows_read, budget=params.data.bad_sample_budget
        )
        quarantine.record(source.faults)
    return source, quarantine


def _open_dataset(
    params: RunParams, place: Place, transform: Any, role: str, recipe: str, fields: Sequence[Field]
) -> tuple[RowDataset, Quarantine]:
    source, quarantine = _open_source(params, place, transform, role, recipe, fields)
    shown = printable(source.source)
    _LOG.info("--%s-data: %d rows with %d images from %s", role, len(source), source.num_images, shown)
    if source.faults:
        _LOG.warning("%d rows of %s are unusable: %s", len(source.faults), shown, cut_list(source.faults, 3))
    return RowDataset(source, fields, seed=params.hardware.seed, is_train=role == "train"), quarantine


def build_train_data(
    params: RunParams,
    place: Place,
    transform: Any,
    make_planner: Callable[[], TextPlanner | None],
    task: Task,
) -> tuple[TrainLoader | None, Quarantine | None]:
    """Open the training data and make its loader; None twice for a run that only evaluates.

    Args:
        params: The flags.
        place: Where the run is.
        transform: From an image to what the model sees.
        make_planner: Gives what decides how texts are computed.
        task: The recipe, which says what its batches are made of.

    Raises:
        ConfigError: The data lacks a column that a field reads, or cannot be streamed with these fields.
    """
    if not params.data.trains:
        return None, None
    kit = _make_kit(params, transform, "train", make_planner)
    fields = task.fields(kit, params)
    if params.shards.shard_order == "buffer":
        texts = _fields_of_stream(task.name, fields)
        return build_stream_loader(params, place, kit.transform, texts.tokenizer, texts.planner), None
    dataset, quarantine = _open_dataset(params, place, transform, "train", task.name, fields)
    loader = make_train_loader(dataset, seed=params.hardware.seed, **_loader_options(params, place))
    return loader, quarantine


def _fields_of_stream(recipe: str, fields: Sequence[Field]) -> TextField:
    """Refuse what the stream does not hold, and give the field of its captions."""
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


def build_eval_data(
    params: RunParams, place: Place, transform: Any, task: Task
) -> tuple[EvalLoader | None, Quarantine | None, Source | None]:
    """Open the validation data and make its loader; None three times without any. As `build_train_data`."""
    if not params.data.val_data:
        return None, None, None
    fields = task.fields(_make_kit(params, transform, "val"), params)
    dataset, quarantine = _open_dataset(params, place, transform, "val", task.name, fields)
    _try_rows(dataset)
    return make_eval_loader(dataset, **_loader_options(params, place)), quarantine, dataset.source


def _try_rows(dataset: RowDataset) -> None:
    """Read the first rows: a set of which none can be read would be noticed only after an epoch of training.

    Raises:
        DataError: None of them can be used.
    """
    faults: list[Fault] = []
    for row in range(min(len(dataset), _NUM_TRIED)):
        sample = dataset[0, row]
        if sample.values is not None:
            return
        faults += sample.faults
    raise DataError(
        f"None of the first {len(faults)} rows to evaluate can be used (--val-data). One is: {faults[0].reason}"
    )


def build_class_sets(params: RunParams, place: Place, transform: Any) -> tuple[ClassSet, ...]:
    """Open the class folders that the flags name; ImageNet-V2's folders are numbers, whose order is not the text's."""
    if not params.evaluate.zeroshot_frequency:
        return ()
    named = {
        "imagenet-zeroshot-val": (params.evaluate.imagenet_val, False),
        "imagenetv2-zeroshot-val": (params.evaluate.imagenet_v2, True),
    }
    sets = []
    for name, (path, by_number) in named.items():
        if not path:
            continue
        table, classes = read_class_folder(path, by_number)
        quarantine = Quarantine(place.folder.bad_samples, table.num_rows_read, params.data.bad_sample_budget)
        quarantine.record(table.faults)
        fields = (
            ImageField(rgb_first(_pixels(transform)), max_pixels=params.data.max_image_pixels),
            LabelField(),
        )
        loader = make_eval_loader(RowDataset(table, fields, is_train=False), **_loader_options(params, place))
        names = read_class_names(path, len(classes))
        sets.append(ClassSet(name, loader, names, make_receive(place, quarantine)))
    return tuple(sets)


def describe_workers(params: RunParams) -> str | None:
    """Say when not all loader processes that were asked for are started, or more than there are cores."""
    asked, started = params.data.workers, usable_workers(params.data.workers)
    if asked == started:
        return None
    if params.shards.shard_order == "buffer":
        return f"--workers {asked}: this process may use {started} cores; the order of samples needs them all"
    return f"--workers {asked}: this process may use {started} cores, so {started} loader processes are started"


def _loader_options(params: RunParams, place: Place) -> dict[str, Any]:
    return {
        "batch_size": params.data.batch_size,
        "rank": place.world.rank,
        "world_size": place.world.world_size,
        "workers": usable_workers(params.data.workers),
        "pin_memory": place.device.pin_memory,
    }
