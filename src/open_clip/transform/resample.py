"""Resize pixels exactly as the installed Pillow does, several times as fast, where numba is installed.

Nothing here draws random numbers. Without numba, or where Pillow's pixels are not met, there is no fast way and callers
use Pillow itself.
"""

import logging
import math
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import PIL
import torch
from PIL import Image
from torch.nn.functional import interpolate

from open_clip.transform import resample_kernels
from open_clip.transform.resample_kernels import BLOCK_ROWS, TAPS

_LOG = logging.getLogger(__name__)

# Rows of a block are a multiple of this: two vectors of 8 sums.
_LANES: Final = 16

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]


class Cut(NamedTuple):
    """What is wanted of an image: a part of it, resized, and of that a window.

    Attributes:
        left: First column of the part.
        top: First row of the part.
        width: Columns of the part.
        height: Rows of the part.
        to_width: Columns that the part is resized to.
        to_height: Rows that the part is resized to.
        first_column: First column of the window in the resized part.
        first_row: First row of the window in the resized part.
        is_cubic: Bicubic or bilinear.
    """

    left: int
    top: int
    width: int
    height: int
    to_width: int
    to_height: int
    first_column: int = 0
    first_row: int = 0
    is_cubic: bool = True


Resample = Callable[[Pixels, Cut, Pixels], None]
"""Takes the pixels [H, W, 3] of an image, what is wanted, and where the window goes: contiguous [3, height, width]."""


class _Kernels(NamedTuple):
    fill_weights: Callable[..., None]
    resize_rows: Callable[..., None]
    resize_columns: Callable[..., None]


class _Scratch(threading.local):
    """Memory for one image at a time, kept by each thread: fresh memory would cost as much as the arithmetic."""

    def __init__(self) -> None:
        self._blocks: dict[str, npt.NDArray[Any]] = {}

    def take(self, name: str, dtype: type, *shape: int) -> npt.NDArray[Any]:
        """Return an array whose contents are whatever was there before."""
        size = math.prod(shape)
        block = self._blocks.get(name)
        if block is None or block.size < size:
            block = self._blocks[name] = np.zeros(size, dtype)
        return block[:size].reshape(shape)


class _Resampler:
    """Pillow's two passes.

    Args:
        kernels: The compiled inner loops.
        is_height_first: Tells what is resized in height first; the result depends on it.
    """

    def __init__(self, kernels: _Kernels, is_height_first: Callable[[Cut], bool]) -> None:
        self._kernels = kernels
        self._is_height_first = is_height_first
        self._scratch = _Scratch()

    def __call__(self, pixels: Pixels, cut: Cut, out: Pixels) -> None:
        """Resize a part of an image."""
        _, height, width = out.shape
        take = self._scratch.take
        columns, column_table = self._weigh("columns", cut.width, cut.to_width, cut.first_column, width, cut.is_cubic)
        rows, row_table = self._weigh("rows", cut.height, cut.to_height, cut.first_row, height, cut.is_cubic)
        begin, row_begin = int(columns[0, 0]), int(rows[0, 0])
        num_columns = int((columns[:, 0] + columns[:, 1]).max()) - begin
        num_rows = int((rows[:, 0] + rows[:, 1]).max()) - row_begin
        columns[:, 0] -= begin
        left = (cut.left + begin) * 3
        num_words = -(-3 * width // 4)
        source = pixels.reshape(pixels.shape[0], -1)
        if self._is_height_first(cut):
            rows[:, 0] += cut.top
            short = take("short", np.uint8, 1, height, num_columns * 3)
            sums = take("sums", np.int32, num_columns * 3)
            self._kernels.resize_columns(source, left, rows, row_table, sums, short)
            words = take("narrow", np.uint32, height, num_words)
            self._resize_rows(short[0], 0, 0, num_columns * 3, columns, column_table, words)
            planes = words.view(np.uint8)[:, : 3 * width].reshape(height, 3, width)
            np.copyto(out, planes.transpose(1, 0, 2))
            return
        rows[:, 0] -= row_begin
        words = take("narrow", np.uint32, num_rows, num_words)
        self._resize_rows(source, cut.top + row_begin, left, num_columns * 3, columns, column_table, words)
        sums = take("sums", np.int32, 3 * width)
        self._kernels.resize_columns(words.view(np.uint8), 0, rows, row_table, sums, out)

    def _weigh(
        self, name: str, in_size: int, out_size: int, first: int, count: int, is_cubic: bool
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        reach = (2.0 if is_cubic else 1.0) * max(in_size / out_size, 1.0)
        taps = -(-(math.ceil(reach) * 2 + 1) // TAPS) * TAPS
        spans = self._scratch.take(f"{name} spans", np.int64, count, 2)
        table = self._scratch.take(f"{name} table", np.int32, count, taps)
        shares = self._scratch.take("shares", np.float64, taps)
        self._kernels.fill_weights(in_size, out_size, first, is_cubic, shares, spans, table)
        return spans, table

    def _resize_rows(
        self,
        source: Pixels,
        top: int,
        left: int,
        width: int,
        spans: npt.NDArray[np.int64],
        table: npt.NDArray[np.int32],
        words: npt.NDArray[np.uint32],
    ) -> None:
        take = self._scratch.take
        num_lines = 4 * words.shape[1]
        num_rows = words.shape[0]
        num_blocks = -(-num_rows // BLOCK_ROWS)
        lanes = -(-num_rows // (num_blocks * _LANES)) * _LANES
        packed = take("packed", np.uint32, lanes // 4 * max(width, num_lines))
        block = take("block", np.uint8, width + 3 * table.shape[1], lanes)
        turned = take("turned", np.uint8, num_lines, lanes)
        sums = take("block sums", np.int32, lanes)
        self._kernels.resize_rows(source, top, left, width, spans, table, packed, block, turned, sums, words)


@lru_cache(maxsize=1)
def load_resampler() -> Resample | None:
    """Compile the fast resize, or fetch it from where it was kept, and hold it against Pillow; None without one.

    Call it before worker processes are forked: they then have it already.
    """
    try:
        kernels = _compile(cache=True)
    except Exception:
        # No folder to keep compiled code in, or a full disk: compile for this process alone.
        try:
            kernels = _compile(cache=False)
        # Speed only: numba may be absent, broken, or not made for this numpy.
        except Exception as error:
            _LOG.debug("images are resized by Pillow alone: %s (%s)", error, type(error).__name__)
            return None
    for is_height_first in _PASS_ORDERS:
        resampler = _Resampler(kernels, is_height_first)
        if _meets_pillow(resampler):
            return resampler
    _LOG.debug("images are resized by Pillow alone: numba's pixels are not those of Pillow %s", PIL.__version__)
    return None


def _compile(cache: bool) -> _Kernels:
    from numba import config, njit

    if getattr(config, "DISABLE_JIT", False):
        raise RuntimeError("NUMBA_DISABLE_JIT is set")
    return _Kernels(
        *(
            cast(
                Callable[..., None],
                njit(signature, cache=cache, nogil=True, error_model="numpy")(getattr(resample_kernels, name)),
            )
            for name, signature in resample_kernels.SIGNATURES.items()
        )
    )


def _never(cut: Cut) -> bool:
    """Older Pillow: always the width."""
    return False


def _very_tall(cut: Cut) -> bool:
    """Pillow 12.2 and 12.3."""
    return cut.height > 100 * cut.width and cut.to_height < cut.height


def _shrinks_in_height(cut: Cut) -> bool:
    """Pillow 13: the height shrinks by more than twice what the width does."""
    shrinks = cut.height - cut.to_height
    return shrinks > 0 and shrinks > 2 * (cut.width - cut.to_width)


_PASS_ORDERS: Final = (_shrinks_in_height, _very_tall, _never)

# (width, height) of a part, then of the result: shrinking, growing, both sides of what decides the first pass.
_TRIALS: Final[tuple[tuple[Size, Size], ...]] = (
    ((37, 29), (16, 16)),
    ((9, 7), (16, 20)),
    ((70, 200), (33, 31)),
    ((31, 16), (24, 16)),
    ((16, 31), (16, 24)),
    ((40, 56), (32, 40)),
    ((40, 57), (32, 40)),
    ((32, 41), (32, 40)),
    ((20, 40), (32, 40)),
    ((20, 41), (32, 40)),
    ((130, 50), (32, 40)),
    ((2, 200), (8, 20)),
    ((2, 201), (8, 20)),
)


def _meets_pillow(resample: Resample) -> bool:
    """Compare with Pillow: its versions differ, and so may processors."""
    return not any(_differences(resample, trial, is_cubic) for trial in _TRIALS for is_cubic in (True, False))


def _differences(resample: Resample, trial: tuple[Size, Size], is_cubic: bool) -> int:
    """Add up by how much a small image of noise differs from what Pillow makes of it."""
    (width, height), size = trial
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (height + 5, width + 7, 3), dtype=np.uint8)
    part = Image.fromarray(noise).crop((3, 2, 3 + width, 2 + height))
    expected = np.asarray(part.resize(size, Image.Resampling.BICUBIC if is_cubic else Image.Resampling.BILINEAR))
    found = np.empty((3, size[1], size[0]), dtype=np.uint8)
    resample(noise, Cut(3, 2, width, height, *size, is_cubic=is_cubic), found)
    return int(np.abs(found.transpose(1, 2, 0).astype(np.int32) - expected).sum())


def resample_near(pixels: Pixels, cut: Cut, out: Pixels) -> None:
    """Resize with torch's antialiasing on bytes: a few of a thousand values differ from Pillow's, by a level or two."""
    _resample_near(pixels, cut, out, _nearest_pass_order())


def _resample_near(pixels: Pixels, cut: Cut, out: Pixels, is_height_first: Callable[[Cut], bool]) -> None:
    part = pixels[cut.top : cut.top + cut.height, cut.left : cut.left + cut.width]
    # torch warns of arrays that may not be written to, which it does not do here.
    part = part if part.flags.writeable else part.copy()
    mode = "bicubic" if cut.is_cubic else "bilinear"
    image = torch.from_numpy(part).permute(2, 0, 1)[None]
    if is_height_first(cut):
        image = interpolate(image, size=(cut.to_height, cut.width), mode=mode, antialias=True)
    image = interpolate(image, size=(cut.to_height, cut.to_width), mode=mode, antialias=True)
    _, height, width = out.shape
    rows, columns = slice(cut.first_row, cut.first_row + height), slice(cut.first_column, cut.first_column + width)
    np.copyto(out, image[0, :, rows, columns].numpy())


@lru_cache(maxsize=1)
def _nearest_pass_order() -> Callable[[Cut], bool]:
    def difference(is_height_first: Callable[[Cut], bool]) -> int:
        resample = partial(_resample_near, is_height_first=is_height_first)
        return sum(_differences(resample, trial, True) for trial in _TRIALS)

    return min(_PASS_ORDERS, key=difference)
