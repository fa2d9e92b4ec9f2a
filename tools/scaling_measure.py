"""Measure on this machine what the loader's tables of docs/scaling.md start from; nothing else needs it."""

import io
import itertools
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import AugmentationCfg, PreprocessCfg, image_transform_v2, to_uint8
from scaling_devices import Measured
from training.data.columns import ColumnBuilder
from training.data.decode import ImageBytes
from training.data.shards.index import ShardIndex
from training.data.shards.order import ShardOrder

_SHARD = 10_000
_WORDS = ("dogs", "parks", "rain", "people", "a red bicycle", "snow", "an old street", "markets")
_SIZES = (10**6, 10**7, 10**8, 4 * 10**8, 2 * 10**9)


def measure() -> Measured:
    """Take the best of several rounds, in processor time of one core."""
    torch.set_num_threads(1)
    tokenizer = SimpleTokenizer()
    numbers = itertools.count()
    return Measured(
        image_ms=image_ms(256, 256),
        large_image_ms=image_ms(500, 375),
        # New captions in each round, of words that came before: whole captions may be kept too.
        caption_ms=_best_ms(lambda: tokenizer([_caption(next(numbers)) for _ in range(200)])) / 200,
        index_bytes=index_bytes(2 * _SHARD),
        order_mb={samples: order_mb(samples) for samples in _SIZES},
    )


def image_ms(width: int, height: int, count: int = 20) -> float:
    """Measure reading, cropping and resizing made-up JPEGs of quality 90."""
    rng = np.random.default_rng(0)
    transform = to_uint8(image_transform_v2(PreprocessCfg(size=224), is_train=True, aug_cfg=AugmentationCfg()))
    files = [_make_jpeg(rng, width, height) for _ in range(count)]
    return _best_ms(lambda: [transform(ImageBytes(data).open(10**9)) for data in files]) / count


def index_bytes(samples: int) -> float:
    """Measure one sample's part of a shard's index in memory."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    keys = ColumnBuilder()
    for number in range(samples):
        keys.append(f"{number:09d}")
    index = ShardIndex("shard.tar", keys.finish(), np.zeros((samples, 4), np.int64), np.arange(samples), ())
    del keys
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / len(index)


def order_mb(samples: int) -> float:
    """Measure the peak memory of making one epoch's order and reading a batch in its middle."""
    tracemalloc.start()
    order = ShardOrder(np.full(samples // _SHARD, _SHARD, dtype=np.int64), seed=0, epoch=0)
    assert len(order[samples // 2 : samples // 2 + 4096]) == 4096
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def _caption(number: int) -> str:
    words = [_WORDS[number // 8**place % 8] for place in range(6)]
    return f"a photo of {' '.join(words)}"


def _make_jpeg(rng: np.random.Generator, width: int, height: int) -> bytes:
    coarse = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    grainy = (smooth + rng.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(grainy).save(held, "JPEG", quality=90)
    return held.getvalue()


def _best_ms(work: Callable[[], object], rounds: int = 7) -> float:
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return 1e3 * min(found)
