"""The data of a run from the flags: sources, loaders, and what becomes of unusable rows."""

import logging
from collections.abc import Callable
from typing import Any

import torch

import open_clip
from open_clip.errors import ConfigError, DataError, cut_list, naming, printable
from open_clip.transform import to_uint8
from training.assembly.place import Place
from training.assembly.shards import build_stream_loader
from training.data import (
    Batch,
    ClassNumbers,
    EvalLoader,
    PairDataset,
    Quarantine,
    Source,
    SourceRequest,
    TextPlanner,
    TrainLoader,
    make_eval_loader,
    make_train_loader,
    open_source,
    read_class_folder,
    read_image,
    rgb_first,
)
from training.data.cores import usable_workers
from training.distributed import gather_objects
from training.evaluate import ClassSet, read_class_names
from training.params import RunParams

_LOG = logging.getLogger(__name__)
_NUM_TRIED = 8


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


def _open_source(params: RunParams, place: Place, transform: Any, role: str) -> tuple[Source, Quarantine]:
    """Read what a data flag names and hold the rows that are refused there against the budget."""
    path = params.data.train_data if role == "train" else params.data.val_data
    request = SourceRequest(
        path or "",
        role,
        params.data,
        params.shards,
        image_size=_image_size(transform),
        rank=place.world.rank,
        world_size=place.world.world_size,
        gather=lambda own: gather_objects(own, place.world),
    )
    with naming(f"--{role}-data"):
        source = open_source(request)
        quarantine = Quarantine(
            place.folder.bad_samples, num_samples=source.num_rows_read, budget=params.data.bad_sample_budget
        )
        quarantine.record(source.faults)
    return source, quarantine


def _open_dataset(
    params: RunParams, place: Place, transform: Any, role: str, plan_texts: TextPlanner | None = None
) -> tuple[PairDataset, Quarantine]:
    table, quarantine = _open_source(params, place, transform, role)
    source = printable(table.source)
    _LOG.info("--%s-data: %d rows with %d images from %s", role, len(table), table.num_images, source)
    if table.faults:
        _LOG.warning("%d rows of %s are unusable: %s", len(table.faults), source, cut_list(table.faults, 3))
    dataset = PairDataset(
        table,
        _pixels(transform),
        make_tokenizer(params),
        seed=params.hardware.seed,
        is_train=role == "train",
        max_pixels=params.data.max_image_pixels,
        # Figures of evaluation stay comparable whatever a run trains on.
        pixels="near" if role == "train" and params.data.image_pixels == "near" else "exact",
        plan_texts=plan_texts,
    )
    return dataset, quarantine


def build_train_data(
    params: RunParams, place: Place, transform: Any, plan_texts: TextPlanner | None
) -> tuple[TrainLoader | None, Quarantine | None]:
    """Open the training data and make its loader; None twice for a run that only evaluates."""
    if not params.data.trains:
        return None, None
    if params.shards.shard_order == "buffer":
        tokenizer = make_tokenizer(params)
        return build_stream_loader(params, place, _pixels(transform), tokenizer, plan_texts), None
    dataset, quarantine = _open_dataset(params, place, transform, "train", plan_texts)
    loader = make_train_loader(dataset, seed=params.hardware.seed, **_loader_options(params, place))
    return loader, quarantine


def build_eval_data(
    params: RunParams, place: Place, transform: Any
) -> tuple[EvalLoader | None, Quarantine | None, Source | None]:
    """Open the validation data and make its loader; None three times without any."""
    if not params.data.val_data:
        return None, None, None
    dataset, quarantine = _open_dataset(params, place, transform, "val")
    _try_images(dataset.table, params.data.max_image_pixels)
    return make_eval_loader(dataset, **_loader_options(params, place)), quarantine, dataset.table


def _try_images(table: Source, max_pixels: int) -> None:
    """Open the first images: a set of which none can be read would be noticed only after an epoch of training.

    Raises:
        DataError: None of them can be decoded.
    """
    faults = []
    for row in range(min(len(table), _NUM_TRIED)):
        try:
            read_image(table, row).open(max_pixels)
            return
        except DataError as error:
            faults.append(str(error))
    raise DataError(f"None of the first {len(faults)} images to evaluate can be used (--val-data). One is: {faults[0]}")


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
        dataset = PairDataset(
            table,
            rgb_first(_pixels(transform)),
            ClassNumbers(classes),
            is_train=False,
            max_pixels=params.data.max_image_pixels,
        )
        loader = make_eval_loader(dataset, **_loader_options(params, place))
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
