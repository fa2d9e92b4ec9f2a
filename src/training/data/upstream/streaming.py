"""Upstream's streaming data set over the webdataset library: (images, texts) batches in upstream's order.

The trainer's own loaders are not built on it: an order that a restart can enter anywhere needs an index of members.
"""

import math
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from open_clip.errors import ConfigError, DataError
from open_clip.transform import ConvertMode
from open_clip.transform.direct import PixelMode, to_direct
from training.data.decode import DEFAULT_MAX_PIXELS, ImageBytes
from training.data.encoding import MAX_CAPTION_BYTES
from training.data.images import Transform
from training.data.optional import import_webdataset
from training.data.order import sample_seed
from training.data.orphans import EndsWithParent
from training.data.seeding import seeded
from training.data.shard_files import refuse_pipes
from training.data.upstream.data_info import DataInfo
from training.data.upstream.shard_order import ResampledShards2, SampleShuffle, SharedEpoch, detshuffle2
from training.data.upstream.tar_samples import (
    IMAGE_SUFFIXES,
    TEXT_SUFFIX,
    RawSample,
    TarSamples,
    base_plus_ext,
    filter_no_caption_or_no_image,
    log_and_continue,
)
from training.data.urls import expand_urls, get_dataset_size, require_shards

_SHARD_SHUFFLE_SIZE: Final = 2000
_SHARD_SHUFFLE_INITIAL: Final = 500
_SAMPLE_SHUFFLE_SIZE: Final = 5000
_SAMPLE_SHUFFLE_INITIAL: Final = 1000
_MAX_BARREN_SHARDS: Final = 100
_MAX_BAD_IN_A_ROW: Final = 1000


def get_wds_dataset(
    args: Namespace,
    preprocess_img: Transform,
    is_train: bool,
    epoch: int = 0,
    floor: bool = False,
    tokenizer: Any = None,
) -> DataInfo:
    """Make the streaming loader of the shards that ``args`` names.

    Args:
        args: train_data, val_data, train_num_samples, val_num_samples, dataset_resampled,
            train_data_upsampling_factors, seed, batch_size, workers, world_size as `training.params.parse_args` gives
            them (world_size is 1 when it is not set).
        is_train: shuffle, and give only full batches.
        floor: leave samples beyond the last full global batch out instead of repeating some.
        tokenizer: from a caption to token ids, [1, L].

    Returns:
        Batches ``(images, texts)``; ``dataloader`` has ``num_batches`` and ``num_samples``.

    Raises:
        ConfigError: the flags contradict each other.
        DataError: a shard is missing, the number of training samples is not known, or there are too few shards.
        MissingDependency: webdataset is not installed.

    Source: get_wds_dataset of open_clip_torch 3.3.0.
    """
    wds = import_webdataset()
    resampled = is_train and bool(getattr(args, "dataset_resampled", False))
    allow_pipe = bool(getattr(args, "allow_pipe_urls", False))
    world_size = int(getattr(args, "world_size", 1))
    urls, weights = _list_shards(args, is_train, resampled, allow_pipe, world_size)
    num_samples = _count_samples(args, urls, is_train)
    shared_epoch = SharedEpoch(epoch=epoch)
    order = _shard_order(wds, urls, weights, resampled, is_train, args.seed, shared_epoch)
    max_pixels = getattr(args, "max_image_pixels", DEFAULT_MAX_PIXELS)
    pixels: PixelMode = getattr(args, "image_pixels", "exact")
    decode = _Decode(preprocess_img, tokenizer, max_pixels, args.seed if is_train else 0, shared_epoch, pixels)
    batch = wds.batched(args.batch_size, partial=not is_train)
    if is_train:
        read = TarSamples(log_and_continue, _is_wanted, allow_pipe, min(_MAX_BARREN_SHARDS, max(3, len(urls))))
        shuffle = SampleShuffle(_SAMPLE_SHUFFLE_SIZE, _SAMPLE_SHUFFLE_INITIAL, args.seed, shared_epoch)
        dataset = wds.DataPipeline(*order, read, shuffle, decode, batch, _no_empty_pass)
    else:
        dataset = wds.DataPipeline(*order, TarSamples(log_and_continue, _is_wanted, allow_pipe), decode, batch)
    num_batches = math.ceil(num_samples / args.batch_size)
    if is_train:
        per_worker = _batches_of_worker(num_samples, args.batch_size * world_size, args.workers, floor)
        num_batches = per_worker * max(1, args.workers)
        num_samples = num_batches * args.batch_size * world_size
        dataset = dataset.with_epoch(per_worker)
    # Starting an epoch draws a number, from which workers draw shards: from a generator of its own, or a resumed run
    # would differ. Its first is what the global one would give.
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    loader = wds.WebLoader(
        dataset,
        batch_size=None,
        shuffle=False,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        generator=generator,
        worker_init_fn=EndsWithParent(),
    )
    loader.num_batches = num_batches
    loader.num_samples = num_samples
    return DataInfo(dataloader=loader, shared_epoch=shared_epoch)


def _list_shards(
    args: Namespace, is_train: bool, resampled: bool, allow_pipe: bool, world_size: int
) -> tuple[list[str], Sequence[float] | None]:
    """Spell the shards out and refuse what cannot be streamed."""
    source = args.train_data if is_train else args.val_data
    if not source:
        raise ConfigError(f"get_wds_dataset needs shards: --{'train' if is_train else 'val'}-data.")
    factors = getattr(args, "train_data_upsampling_factors", None) if is_train else None
    if factors is not None and not resampled:
        raise ConfigError("--train-data-upsampling-factors needs --dataset-resampled: only drawn shards have weights.")
    urls, weights = expand_urls(source, factors)
    refuse_pipes(urls, allow_pipe)
    require_shards(urls)
    if is_train and not resampled and len(urls) < args.workers * world_size:
        raise DataError(
            f"{len(urls)} shards cannot be shared by {world_size} ranks with {args.workers} workers each: give every "
            "worker a shard (fewer --workers), or draw shards with --dataset-resampled."
        )
    return urls, weights


def _shard_order(
    wds: Any,
    urls: list[str],
    weights: Sequence[float] | None,
    resampled: bool,
    is_train: bool,
    seed: int,
    epoch: SharedEpoch,
) -> list[object]:
    """Give the stages that say which worker of which rank reads which shard when."""
    if resampled:
        return [ResampledShards2(urls, weights=weights, deterministic=True, epoch=epoch)]
    if not is_train:
        return [wds.SimpleShardList(urls), wds.split_by_worker]
    shuffle = detshuffle2(_SHARD_SHUFFLE_SIZE, _SHARD_SHUFFLE_INITIAL, seed=seed, epoch=epoch)
    return [wds.SimpleShardList(urls), shuffle, wds.split_by_node, wds.split_by_worker]


def _count_samples(args: Namespace, urls: list[str], is_train: bool) -> int:
    if not is_train:
        return int(getattr(args, "val_num_samples", None) or 0)
    num_samples = args.train_num_samples
    if num_samples is None:
        num_samples = get_dataset_size(urls)[0]
    if not num_samples:
        raise DataError(
            "the number of training samples is not known: give --train-num-samples, or write sizes.json or __len__ "
            "beside the shards."
        )
    return int(num_samples)


def _batches_of_worker(num_samples: int, global_batch: int, workers: int, floor: bool) -> int:
    """Share an epoch's batches out: every worker of every rank gives the same number."""
    round_off = math.floor if floor else math.ceil
    per_worker = round_off(round_off(num_samples / global_batch) / max(1, workers))
    if per_worker < 1:
        raise DataError(
            f"{num_samples} samples do not fill one batch of {global_batch} for each of {max(1, workers)} workers."
        )
    return per_worker


def _is_wanted(name: str) -> bool:
    suffix = (base_plus_ext(name)[1] or "").lower()
    return suffix == TEXT_SUFFIX or suffix in IMAGE_SUFFIXES


def _no_empty_pass(batches: Iterable[object]) -> Iterator[object]:
    """Pass batches on; a pass without any would end the epoch early on this rank, while the others wait for it."""
    is_empty = True
    for batch in batches:
        is_empty = False
        yield batch
    if is_empty:
        raise DataError(
            "the shards of one worker do not hold enough usable samples for one batch. The warnings before this say "
            "what is wrong with them; fewer --workers or a smaller --batch-size also help."
        )


class _Decode:
    """A stage from raw samples to (image, text); a sample that cannot be used is logged and left out.

    What a transform draws depends on seed, epoch, sample and its place in the stream alone: a run that goes on inside
    an epoch reads its beginning again and sees the same crops.
    """

    def __init__(
        self,
        transform: Transform,
        tokenizer: Callable[..., Tensor],
        max_pixels: int,
        seed: int,
        epoch: SharedEpoch,
        pixels: PixelMode = "exact",
    ) -> None:
        self.transform = transform
        self.direct = to_direct(transform, pixels)
        self.to_rgb = ConvertMode()
        self.tokenizer = tokenizer
        self.max_pixels = max_pixels
        self.seed = seed
        self.epoch = epoch

    def __call__(self, samples: Iterable[RawSample]) -> Iterator[tuple[object, Tensor]]:
        num_bad = 0
        epoch = self.epoch.get_value()
        for place, sample in enumerate(samples):
            if not filter_no_caption_or_no_image(sample):
                continue
            try:
                name = f"{sample['__url__']}:{sample['__key__']}:{place}".encode("utf-8", "replace")
                with seeded(sample_seed(self.seed, epoch, zlib.crc32(name))):
                    decoded = self._decode(sample)
            # Whatever an image, a transform or a tokenizer raises is one sample less, as it is upstream.
            except Exception as error:
                problem = DataError(f"{sample['__url__']}: {sample['__key__']}: {error} ({type(error).__name__})")
                num_bad += 1
                if num_bad >= _MAX_BAD_IN_A_ROW:
                    raise DataError(f"{num_bad} samples in a row cannot be used, the last: {problem}") from error
                log_and_continue(problem)
                continue
            num_bad = 0
            yield decoded

    def _decode(self, sample: RawSample) -> tuple[object, Tensor]:
        data = next(sample[suffix] for suffix in IMAGE_SUFFIXES if suffix in sample)
        if len(sample[TEXT_SUFFIX]) > MAX_CAPTION_BYTES:
            raise DataError(f"caption of {len(sample[TEXT_SUFFIX]):,} bytes is over the limit of {MAX_CAPTION_BYTES:,}")
        text = sample[TEXT_SUFFIX].decode("utf-8")
        if self.direct is None:
            image = self.to_rgb(ImageBytes(data).open(self.max_pixels))
            return self.transform(image), self.tokenizer(text)[0]
        image = ImageBytes(data).open_pixels(self.max_pixels)
        pixels = torch.empty(3, *self.direct.size, dtype=torch.uint8)
        self.direct(self.to_rgb(image), pixels.numpy())
        return pixels, self.tokenizer(text)[0]
