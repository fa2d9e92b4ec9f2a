"""Put a run together from its parts; the one place that knows them all. Trains nothing."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import open_clip
from open_clip.errors import ConfigError, OpenClipError, cut_list
from open_clip.loss import ClipLoss
from open_clip.transform import Compose, normalization_of, to_uint8
from training.data import (
    Batch,
    ClassNumbers,
    EvalLoader,
    PairDataset,
    PairTable,
    Quarantine,
    RgbFirst,
    SyntheticTable,
    TrainLoader,
    make_eval_loader,
    make_train_loader,
    read_class_folder,
    read_csv_pairs,
    read_folder_pairs,
)
from training.device import Device, MixedPrecision, make_mixed_precision, resolve_precision, seed_all
from training.distributed import World, unwrap_model, wrap_model
from training.evaluate import ClassSet, ZeroShot, read_class_names
from training.optim import build_optimizer
from training.params import DataParams, LockParams, RunParams
from training.run_folder import RunFolder
from training.tasks import ClipTask

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a process computes: its device, its world, its run folder."""

    device: Device
    torch_device: torch.device
    world: World
    folder: RunFolder


@dataclass(frozen=True)
class Parts:
    """Everything of a run that is made before training starts."""

    task: ClipTask
    mixed: MixedPrecision
    optimizer: torch.optim.Optimizer | None
    train_loader: TrainLoader | None
    eval_loader: EvalLoader | None
    eval_table: PairTable | None
    train_quarantine: Quarantine | None
    eval_quarantine: Quarantine | None
    zero_shot: ZeroShot | None = None


def build_parts(params: RunParams, place: Place) -> Parts:
    """Make model, task, optimizer and loaders.

    Raises:
        OpenClipError: One of its kinds, naming the flag or file that is wrong.
    """
    hardware = params.hardware
    precision = resolve_precision(hardware.precision, place.device)
    if precision.note:
        _LOG.info("%s", precision.note)
    place.device.set_deterministic(hardware.deterministic)
    mixed = make_mixed_precision(precision, place.device, place.torch_device, hardware.loss_scale)
    # The same weights in every process; what differs between them (dropout) is seeded after.
    seed_all(hardware.seed, place.device)
    model, preprocess_train, preprocess_val = _build_model(params, precision.model, place.torch_device)
    seed_all(hardware.seed + place.world.rank, place.device)
    _lock_towers(model, params.lock)
    if params.model.grad_checkpointing:
        model.set_grad_checkpointing()
    train_loader, train_quarantine = _build_train_data(params, place, preprocess_train)
    eval_loader, eval_quarantine, eval_table = _build_eval_data(params, place, preprocess_val)
    optimizer = None
    if train_loader is not None:
        # apex must see the bare model and its optimizer before they are wrapped.
        optimizer = build_optimizer(model, params.optim, place.device)
        model, optimizer = mixed.prepare(model, optimizer)
        model = wrap_model(model, place.torch_device, place.world, static_graph=params.distributed.ddp_static_graph)
    mean, std = normalization_of(preprocess_val)
    loss = ClipLoss(
        local_loss=params.distributed.local_loss,
        # Without it each process would get 1/world_size of the towers' gradient: other results on more devices.
        gather_with_grad=True,
        cache_labels=True,
        rank=place.world.rank,
        world_size=place.world.world_size,
    )
    task = ClipTask(model, loss, mean=mean, std=std, input_dtype=precision.input_dtype)
    return Parts(
        task,
        mixed,
        optimizer,
        train_loader,
        eval_loader,
        eval_table,
        train_quarantine,
        eval_quarantine,
        _build_zero_shot(params, place, preprocess_val),
    )


def make_receive(place: Place, quarantine: Quarantine | None) -> Callable[[Batch], Batch]:
    """Make the function that accounts for a batch's unusable rows and brings it to the device."""

    def receive(batch: Batch) -> Batch:
        if batch.faults and quarantine is not None and quarantine.record(batch.faults):
            _LOG.warning("%d unusable rows so far, the last: %s", quarantine.count, batch.faults[-1])
        return batch.to(place.torch_device, non_blocking=place.device.pin_memory)

    return receive


def _build_model(params: RunParams, precision: str, torch_device: torch.device) -> tuple[Any, Compose, Compose]:
    model, train, val = open_clip.create_model_and_transforms(
        params.model.model,
        params.model.pretrained or None,
        precision=precision,
        device=torch_device,
        force_quick_gelu=params.model.force_quick_gelu,
        force_custom_text=params.model.force_custom_text,
        force_patch_dropout=params.model.force_patch_dropout,
        force_image_size=_image_size(params.model.force_image_size),
        force_context_length=params.model.force_context_length,
        image_mean=tuple(params.image.image_mean) if params.image.image_mean else None,
        image_std=tuple(params.image.image_std) if params.image.image_std else None,
        image_interpolation=params.image.image_interpolation,
        image_resize_mode=params.image.image_resize_mode,
        aug_cfg=params.data.aug_cfg,
        cache_dir=params.model.cache_dir,
        output_dict=True,
    )
    return model, train, val


def _image_size(values: list[int] | None) -> int | tuple[int, int] | None:
    if not values:
        return None
    if len(values) > 2:
        raise ConfigError(f"--force-image-size takes one value, or height and width; it has {len(values)}.")
    return values[0] if len(values) == 1 else (values[0], values[1])


def _lock_towers(model: Any, lock: LockParams) -> None:
    if lock.lock_image:
        model.lock_image_tower(
            unlocked_groups=lock.lock_image_unlocked_groups, freeze_bn_stats=lock.lock_image_freeze_bn_stats
        )
    if lock.lock_text:
        model.lock_text_tower(
            unlocked_layers=lock.lock_text_unlocked_layers, freeze_layer_norm=lock.lock_text_freeze_layer_norm
        )


def _tokenizer(params: RunParams) -> Callable[..., torch.Tensor]:
    tokenizer: Callable[..., torch.Tensor] = open_clip.get_tokenizer(
        params.model.model, context_length=params.model.force_context_length, cache_dir=params.model.cache_dir
    )
    return tokenizer


def _read_table(path: str, role: str, data: DataParams) -> PairTable:
    kind = data.dataset_type
    if kind in ("auto", "synthetic"):
        kind = "folder" if Path(path).is_dir() else "csv"
    try:
        if kind == "folder":
            return read_folder_pairs(path, role)
        return read_csv_pairs(path, data.csv_separator, data.csv_img_key, data.csv_caption_key)
    except OpenClipError as error:
        error.add_note(f"(--{role}-data)")
        raise


def _synthetic_table(num_samples: int, transform: Any) -> PairTable:
    """Make as many pairs as asked, of the size that the transform makes; 224 where it does not say."""
    size = getattr(next(iter(getattr(transform, "transforms", ())), None), "size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    return SyntheticTable(num_samples, height, width)


def _pixels(transform: Any) -> Any:
    """Leave normalisation to the device where the transform allows it; timm's pipelines stay whole."""
    try:
        return to_uint8(transform)
    except ConfigError:
        return transform


def _open_dataset(params: RunParams, place: Place, transform: Any, role: str) -> tuple[PairDataset, Quarantine]:
    path = params.data.train_data if role == "train" else params.data.val_data
    if role == "train" and params.data.dataset_type == "synthetic":
        assert params.shards.train_num_samples is not None
        table = _synthetic_table(params.shards.train_num_samples, transform)
    else:
        assert path is not None
        table = _read_table(path, role, params.data)
    budget = params.data.bad_sample_budget
    quarantine = Quarantine(place.folder.bad_samples, num_samples=table.num_rows_read, budget=budget)
    try:
        quarantine.record(table.faults)
    except OpenClipError as error:
        error.add_note(f"(--{role}-data)")
        raise
    _LOG.info("--%s-data: %d rows with %d pictures from %s", role, len(table), table.num_images, table.source)
    if table.faults:
        _LOG.warning("%d rows of %s are unusable: %s", len(table.faults), table.source, cut_list(table.faults, 3))
    dataset = PairDataset(
        table,
        _pixels(transform),
        _tokenizer(params),
        seed=params.hardware.seed,
        is_train=role == "train",
        max_pixels=params.data.max_image_pixels,
    )
    return dataset, quarantine


def _build_train_data(params: RunParams, place: Place, transform: Any) -> tuple[TrainLoader | None, Quarantine | None]:
    if not params.data.train_data and params.data.dataset_type != "synthetic":
        return None, None
    dataset, quarantine = _open_dataset(params, place, transform, "train")
    loader = make_train_loader(dataset, seed=params.hardware.seed, **_loader_options(params, place))
    return loader, quarantine


def _build_eval_data(
    params: RunParams, place: Place, transform: Any
) -> tuple[EvalLoader | None, Quarantine | None, PairTable | None]:
    if not params.data.val_data:
        return None, None, None
    dataset, quarantine = _open_dataset(params, place, transform, "val")
    return make_eval_loader(dataset, **_loader_options(params, place)), quarantine, dataset.table


def _build_zero_shot(params: RunParams, place: Place, transform: Any) -> ZeroShot | None:
    """Open the class folders that the flags name; ImageNet-V2's folders are numbers, whose order is not the text's."""
    if not params.evaluate.zeroshot_frequency:
        return None
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
            RgbFirst(_pixels(transform)),
            ClassNumbers(classes),
            is_train=False,
            max_pixels=params.data.max_image_pixels,
        )
        loader = make_eval_loader(dataset, **_loader_options(params, place))
        names = read_class_names(path, len(classes))
        sets.append(ClassSet(name, loader, names, make_receive(place, quarantine)))
    return ZeroShot(sets, _tokenizer(params)) if sets else None


def _loader_options(params: RunParams, place: Place) -> dict[str, Any]:
    return {
        "batch_size": params.data.batch_size,
        "rank": place.world.rank,
        "world_size": place.world.world_size,
        "workers": params.data.workers,
        "pin_memory": place.device.pin_memory,
    }


def count_parameters(parts: Parts) -> int:
    """Count the model's parameters."""
    return sum(parameter.numel() for parameter in unwrap_model(parts.task.model).parameters())
