"""The data of a run from the flags: sources, loaders, and what becomes of unusable rows."""

import logging
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import TypeVar

from open_clip.errors import cut_list, naming, printable
from open_clip.transform import Compose
from training.assembly.fields import make_kit, streamed_texts
from training.assembly.place import Place
from training.data import (
    Batch,
    EvalLoader,
    Field,
    FieldKit,
    Quarantine,
    RowDataset,
    Source,
    SourceRequest,
    StreamLoader,
    TextField,
    TextPlanner,
    TrainLoader,
    columns_of,
    image_columns_of,
    make_eval_loader,
    make_train_loader,
    name_field,
    open_source,
)
from training.data.cores import usable_workers
from training.data.source import MissingColumns
from training.distributed import gather_objects
from training.params import RunParams
from training.tasks import Task

_LOG = logging.getLogger(__name__)
_Loader = TypeVar("_Loader")


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


def build_train_data(
    params: RunParams,
    place: Place,
    transform: Compose,
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
    kit = make_kit(params, transform, "train", make_planner)
    fields = task.fields(kit, params)
    if params.shards.shard_order == "buffer":
        # A stream meets unusable rows in other libraries' stages, which log and drop them: nothing to count.
        return _stream(params, place, kit, streamed_texts(task.name, fields)), None
    dataset, quarantine = _open_dataset(params, place, kit, task.name, fields)
    return load(make_train_loader, dataset, params, place, seed=params.hardware.seed), quarantine


def build_eval_data(
    params: RunParams, place: Place, transform: Compose, task: Task
) -> tuple[EvalLoader | None, Quarantine | None, Source | None]:
    """Open the validation data and make its loader; None three times without any. As `build_train_data`.

    Raises:
        DataError: Not one of its first rows can be used.
    """
    if not params.data.val_data:
        return None, None, None
    kit = make_kit(params, transform, "val")
    dataset, quarantine = _open_dataset(params, place, kit, task.name, task.fields(kit, params))
    with naming("--val-data"):
        dataset.try_rows()
    return load(make_eval_loader, dataset, params, place), quarantine, dataset.source


def load(make: Callable[..., _Loader], dataset: RowDataset, params: RunParams, place: Place, **more: int) -> _Loader:
    """Make a loader of this process's share of some rows, as the flags want it."""
    return make(
        dataset,
        batch_size=params.data.batch_size,
        rank=place.world.rank,
        world_size=place.world.world_size,
        workers=usable_workers(params.data.workers),
        pin_memory=place.device.pin_memory,
        **more,
    )


def describe_workers(params: RunParams) -> str | None:
    """Say when not all loader processes that were asked for are started, or more than there are cores."""
    asked, started = params.data.workers, usable_workers(params.data.workers)
    if asked == started:
        return None
    if params.shards.shard_order == "buffer":
        return f"--workers {asked}: this process may use {started} cores; the order of samples needs them all"
    return f"--workers {asked}: this process may use {started} cores, so {started} loader processes are started"


def _open_dataset(
    params: RunParams, place: Place, kit: FieldKit, recipe: str, fields: Sequence[Field]
) -> tuple[RowDataset, Quarantine]:
    """Read what a data flag names and hold the rows that are refused there against the budget."""
    path = params.data.train_data if kit.is_train else params.data.val_data
    request = SourceRequest(
        path or "",
        kit.role,
        params.data,
        params.shards,
        columns=columns_of(fields),
        image_columns=image_columns_of(fields),
        image_size=_image_size(kit.transform),
        rank=place.world.rank,
        world_size=place.world.world_size,
        gather=lambda own: gather_objects(own, place.world),
    )
    with naming(f"--{kit.role}-data"):
        try:
            source = open_source(request)
        except MissingColumns as error:
            raise name_field(error, recipe, fields) from None
        quarantine = Quarantine(
            place.folder.bad_samples, num_samples=source.num_rows_read, budget=params.data.bad_sample_budget
        )
        quarantine.record(source.faults)
    shown = printable(source.source)
    images = f" with {source.num_images} images" if source.num_images else ""
    _LOG.info("--%s-data: %d rows%s from %s", kit.role, len(source), images, shown)
    if source.faults:
        _LOG.warning("%d rows of %s are unusable: %s", len(source.faults), shown, cut_list(source.faults, 3))
    return RowDataset(source, fields, seed=params.hardware.seed, is_train=kit.is_train), quarantine


def _image_size(transform: Callable[..., object]) -> tuple[int, int]:
    """Return (height, width) of what a transform makes; 224 where it does not say."""
    size = getattr(next(iter(getattr(transform, "transforms", ())), None), "size", None)
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else (224, 224)


def _stream(params: RunParams, place: Place, kit: FieldKit, texts: TextField) -> StreamLoader:
    """Stream training shards in upstream's order.

    Raises:
        DataError: Shards are missing, or too few for all workers.
    """
    args = Namespace(
        **vars(params.shards),
        train_data=params.data.train_data,
        batch_size=params.data.batch_size,
        workers=params.data.workers,
        seed=params.hardware.seed,
        world_size=place.world.world_size,
        rank=place.world.rank,
        max_image_pixels=params.data.max_image_pixels,
        image_pixels=params.data.image_pixels,
    )
    # Torch would say on every process and for every epoch what the run says once.
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    return StreamLoader(args, kit.transform, texts.tokenizer, texts.planner)
