"""Upstream's data functions: from the namespace of the flags to loaders of (images, texts).

They stand for programs that import them; the trainer builds its own loaders, whose order a restart can enter anywhere.
"""

import random
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler
from torch.utils.data.distributed import DistributedSampler

from open_clip.errors import ConfigError, printable
from training.data.images import Transform
from training.data.orphans import EndsWithParent
from training.data.upstream.data_info import DataInfo
from training.data.upstream.pair_datasets import ClassFolderDataset, CsvDataset, SyntheticDataset, Tokenize
from training.data.upstream.streaming import get_wds_dataset

_PER_CLASS_OF_IMAGENET_TRAIN = 50


def get_data(
    args: Namespace,
    preprocess_fns: tuple[Transform, Transform],
    epoch: int = 0,
    tokenizer: Tokenize | None = None,
) -> dict[str, DataInfo]:
    """Make the loaders that the flags name: ``train``, ``val``, ``imagenet-val`` and ``imagenet-v2``.

    Args:
        args: what `training.params.parse_args` gives.
        preprocess_fns: transforms of training and of evaluation.
    """
    preprocess_train, preprocess_val = preprocess_fns
    data: dict[str, DataInfo] = {}
    if args.train_data or args.dataset_type == "synthetic":
        make = get_dataset_fn(args.train_data, args.dataset_type)
        data["train"] = make(args, preprocess_train, is_train=True, epoch=epoch, tokenizer=tokenizer)
    if args.val_data:
        make = get_dataset_fn(args.val_data, args.dataset_type)
        data["val"] = make(args, preprocess_val, is_train=False, tokenizer=tokenizer)
    if args.imagenet_val is not None:
        data["imagenet-val"] = get_imagenet(args, preprocess_fns, "val")
    if args.imagenet_v2 is not None:
        data["imagenet-v2"] = get_imagenet(args, preprocess_fns, "v2")
    return data


def get_dataset_fn(data_path: str | None, dataset_type: str) -> Callable[..., DataInfo]:
    """Choose the function that makes the loader of a source.

    Args:
        data_path: decides by its ending when the type is ``auto``: csv or tsv, tar.
        dataset_type: webdataset, csv, synthetic or auto.

    Raises:
        ConfigError: the type is unknown, or the ending says nothing.
    """
    makers: dict[str, Callable[..., DataInfo]] = {
        "webdataset": get_wds_dataset,
        "csv": get_csv_dataset,
        "synthetic": get_synthetic_dataset,
    }
    if dataset_type in makers:
        return makers[dataset_type]
    if dataset_type != "auto":
        raise ConfigError(f"{dataset_type!r} is no type of data: use {', '.join(makers)} or auto.")
    ending = str(data_path).rpartition(".")[2]
    if ending in ("csv", "tsv"):
        return get_csv_dataset
    if ending == "tar":
        return get_wds_dataset
    raise ConfigError(f"the ending of {printable(data_path)} does not say what it holds: give --dataset-type.")


def get_csv_dataset(
    args: Namespace,
    preprocess_fn: Transform,
    is_train: bool,
    epoch: int = 0,
    tokenizer: Tokenize | None = None,
) -> DataInfo:
    """Make the loader of a separated text file.

    Args:
        args: train_data, val_data, csv_img_key, csv_caption_key, csv_separator, batch_size, workers; with
            ``distributed``, ranks share the training rows.
        is_train: shuffle, and give only full batches.
        epoch: read by no one.
    """
    dataset = CsvDataset(
        args.train_data if is_train else args.val_data,
        preprocess_fn,
        img_key=args.csv_img_key,
        caption_key=args.csv_caption_key,
        sep=args.csv_separator,
        tokenizer=tokenizer,
    )
    return _pair_loader(args, dataset, is_train)


def get_synthetic_dataset(
    args: Namespace,
    preprocess_fn: Transform,
    is_train: bool,
    epoch: int = 0,
    tokenizer: Tokenize | None = None,
) -> DataInfo:
    """Make the loader of ``args.train_num_samples`` black images of the size that the transform makes."""
    if not args.train_num_samples:
        raise ConfigError("--dataset-type synthetic needs --train-num-samples, the number of pairs of an epoch.")
    transforms = getattr(preprocess_fn, "transforms", None)
    dataset = SyntheticDataset(
        transform=preprocess_fn,
        image_size=transforms[0].size if transforms else (224, 224),
        dataset_size=args.train_num_samples,
        tokenizer=tokenizer,
    )
    return _pair_loader(args, dataset, is_train)


def get_imagenet(args: Namespace, preprocess_fns: tuple[Transform, Transform], split: str) -> DataInfo:
    """Make the loader of a split of ImageNet: (images, class numbers).

    Args:
        args: imagenet_train, imagenet_val or imagenet_v2, a folder of class folders; batch_size, workers.
        preprocess_fns: transforms of training and of evaluation.
        split: train (50 images of each class, drawn at random), val or v2.

    Raises:
        ConfigError: there is no such split.
    """
    if split not in ("train", "val", "v2"):
        raise ConfigError(f"ImageNet has no split {split!r}: use train, val or v2.")
    transform = preprocess_fns[0] if split == "train" else preprocess_fns[1]
    dataset = ClassFolderDataset(getattr(args, f"imagenet_{split}"), transform, by_number=split == "v2")
    sampler = SubsetRandomSampler(_some_of_each_class(dataset.targets)) if split == "train" else None
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=args.batch_size,
        num_workers=args.workers,
        sampler=sampler,
        worker_init_fn=EndsWithParent(),
    )
    return DataInfo(dataloader=loader, sampler=sampler)


def count_samples(dataloader: Any) -> tuple[int, int]:
    """Read a loader to its end and count samples and batches."""
    num_samples = num_batches = 0
    for images, texts in dataloader:
        if len(images) != len(texts):
            raise ConfigError(f"a batch of this loader holds {len(images)} images and {len(texts)} texts.")
        num_batches += 1
        num_samples += len(images)
    return num_samples, num_batches


def _pair_loader(args: Namespace, dataset: Dataset[tuple[object, Tensor]], is_train: bool) -> DataInfo:
    is_shared = is_train and bool(getattr(args, "distributed", False))
    sampler: DistributedSampler[Any] | None = DistributedSampler(dataset) if is_shared else None
    loader: Any = DataLoader(
        dataset,
        batch_size=args.batch_size,
        shuffle=is_train and sampler is None,
        num_workers=args.workers,
        pin_memory=torch.accelerator.is_available(),
        sampler=sampler,
        drop_last=is_train,
        worker_init_fn=EndsWithParent(),
    )
    loader.num_samples = len(dataset)  # type: ignore[arg-type]
    loader.num_batches = len(loader)
    return DataInfo(dataloader=loader, sampler=sampler)


def _some_of_each_class(targets: list[int]) -> list[int]:
    """Draw up to 50 images of each class; the draw is the same every time."""
    of_class: Mapping[int, list[int]] = {target: [] for target in targets}
    for index, target in enumerate(targets):
        of_class[target].append(index)
    rng = random.Random(0)
    drawn = [rng.sample(rows, min(_PER_CLASS_OF_IMAGENET_TRAIN, len(rows))) for rows in of_class.values()]
    return sorted(index for rows in drawn for index in rows)
