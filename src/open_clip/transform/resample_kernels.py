"""The inner loops of Pillow's resize, written so that numba turns them into vector code; run by `resample`.

They are plain functions of arrays, compiled one by one and never calling each other. Nothing here allocates or checks.

Rows are turned on their side in blocks of up to `BLOCK_ROWS`, so that the pass along a row adds whole vectors too: all
rows of a block share a weight. Bytes are turned four at a time, as the little-endian words in which vector code can
move them. Tables of weights are padded with zeros to a multiple of `TAPS`, the weights added in one go.

Source: precision, rounding and clipping of `ImagingResample` for 8-bit images, Pillow 10 to 13.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

BLOCK_ROWS: Final = 192
TAPS: Final = 4

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]
Ints = npt.NDArray[np.int32]
Spans = npt.NDArray[np.int64]

# 8 bits of result and 2 for sums that leave its range are kept free of 32.
_BITS: Final = 22
_HALF: Final = 1 << (_BITS - 1)
_ONE: Final = float(1 << _BITS)

_IMAGE: Final = "Array(uint8, 2, 'C', readonly=True)"
# What numba compiles each function for, before its first call.
SIGNATURES: Final = {
    "fill_weights": "void(int64, int64, int64, boolean, float64[::1], int64[:, ::1], int32[:, ::1])",
    "resize_rows": (
        f"void({_IMAGE}, int64, int64, int64, int64[:, ::1], int32[:, ::1], uint32[::1], uint8[:, ::1],"
        " uint8[:, ::1], int32[::1], uint32[:, ::1])"
    ),
    "resize_columns": f"void({_IMAGE}, int64, int64[:, ::1], int32[:, ::1], int32[::1], uint8[:, :, ::1])",
}


def fill_weights(
    in_size: int, out_size: int, first: int, is_cubic: bool, shares: npt.NDArray[np.float64], spans: Spans, table: Ints
) -> None:
    """Compute which pixels make pixel `first`, `first` + 1, ... of a resized line, and with which weights.

    Args:
        in_size: Pixels of the line.
        out_size: Pixels of the resized line.
        first: The first pixel wanted.
        is_cubic: Bicubic or bilinear.
        shares: Scratch, as long as a row of `table`.
        spans: [n, 2], filled with the first pixel and the number of pixels of each.
        table: [n, taps], filled with the weights in units of 2 ** -22.
    """
    scale = in_size / out_size
    stretch = max(scale, 1.0)
    reach = (2.0 if is_cubic else 1.0) * stretch
    per_pixel = 1.0 / stretch
    for place in range(spans.shape[0]):
        center = (first + place + 0.5) * scale
        begin = max(int(center - reach + 0.5), 0)
        count = min(int(center + reach + 0.5), in_size) - begin
        total = 0.0
        for tap in range(count):
            at = abs((tap + begin - center + 0.5) * per_pixel)
            share = 0.0
            if not is_cubic:
                share = max(1.0 - at, 0.0)
            elif at < 1.0:
                share = (1.5 * at - 2.5) * at * at + 1
            elif at < 2.0:
                share = (((at - 5) * at + 8) * at - 4) * -0.5
            shares[tap] = share
            total += share
        for tap in range(count):
            share = shares[tap] / total if total != 0.0 else shares[tap]
            table[place, tap] = int(share * _ONE - 0.5) if share < 0 else int(share * _ONE + 0.5)
        for tap in range(count, table.shape[1]):
            table[place, tap] = 0
        spans[place, 0] = begin
        spans[place, 1] = count


def resize_rows(
    src: Bytes,
    top: int,
    left: int,
    width: int,
    spans: Spans,
    table: Ints,
    packed: Words,
    block: Bytes,
    turned: Bytes,
    sums: Ints,
    out: Words,
) -> None:
    """Resize rows of RGB pixels along themselves.

    Args:
        src: [H, W * 3]; rows from `top` on are resized, as many as `out` has.
        top: The first row.
        left: First byte of the part of a row that is resized.
        width: Bytes of that part.
        spans: Of `fill_weights`, [n, 2].
        table: Of `fill_weights`, [n, taps].
        packed: Scratch, lanes / 4 * width and lanes / 4 * 3 * n rounded up words at least.
        block: Scratch [width + 3 * taps, lanes]; lanes, a multiple of 4, are the rows that are resized together.
        turned: Scratch [3 * n rounded up to 4, lanes].
        sums: Scratch [lanes].
        out: Words of rows [3 * n], all red pixels, then all green ones, then all blue ones.
    """
    num_rows, num_words = out.shape
    num_pixels, lanes = spans.shape[0], block.shape[1]
    last, right, fours = top + num_rows - 1, left + width, lanes // 4
    words, first, second, third = block.view(np.uint32), np.uint32(8), np.uint32(16), np.uint32(24)
    for start in range(0, num_rows, lanes):
        for four in range(fours):
            # Rows beyond the last repeat it; what comes of them is not kept.
            row = top + start + 4 * four
            a, b = src[min(row, last), left:right], src[min(row + 1, last), left:right]
            c, d = src[min(row + 2, last), left:right], src[min(row + 3, last), left:right]
            line = packed[four * width : (four + 1) * width]
            for at in range(width):
                low = np.uint32(a[at]) | (np.uint32(b[at]) << first)
                line[at] = low | (np.uint32(c[at]) << second) | (np.uint32(d[at]) << third)
        for at in range(width):
            for four in range(fours):
                words[at, four] = packed[four * width + at]
        for place in range(num_pixels):
            for channel in range(3):
                sums[:] = _HALF
                for tap in range(0, spans[place, 1], TAPS):
                    at = (spans[place, 0] + tap) * 3 + channel
                    a, b, c, d = block[at], block[at + 3], block[at + 6], block[at + 9]
                    w, x, y, z = table[place, tap], table[place, tap + 1], table[place, tap + 2], table[place, tap + 3]
                    for row in range(lanes):
                        low = w * np.int32(a[row]) + x * np.int32(b[row])
                        sums[row] += low + y * np.int32(c[row]) + z * np.int32(d[row])
                line = turned[channel * num_pixels + place]
                for row in range(lanes):
                    line[row] = np.uint8(min(max(sums[row] >> _BITS, np.int32(0)), np.int32(255)))
        for four in range(num_words):
            a, b, c, d = turned[4 * four], turned[4 * four + 1], turned[4 * four + 2], turned[4 * four + 3]
            line = packed[four * lanes : (four + 1) * lanes]
            for row in range(lanes):
                low = np.uint32(a[row]) | (np.uint32(b[row]) << first)
                line[row] = low | (np.uint32(c[row]) << second) | (np.uint32(d[row]) << third)
        for row in range(min(lanes, num_rows - start)):
            for four in range(num_words):
                out[start + row, four] = packed[four * lanes + row]


def resize_columns(src: Bytes, left: int, spans: Spans, table: Ints, sums: Ints, out: npt.NDArray[Any]) -> None:
    """Resize columns of bytes.

    Args:
        src: [H, at least left + planes * n].
        left: The first column.
        spans: Of `fill_weights`, [rows of out, 2]; counted from the first row of `src`.
        table: Of `fill_weights`, [rows of out, taps].
        sums: Scratch [planes * n].
        out: [planes, rows, n], a run of n columns in each plane.
    """
    num_planes, num_rows, num_columns = out.shape
    last, right = src.shape[0] - 1, left + num_planes * num_columns
    for row in range(num_rows):
        sums[:] = _HALF
        begin = spans[row, 0]
        for tap in range(0, spans[row, 1], TAPS):
            # Rows beyond the last have weight zero, but must be there to be read.
            a, b = src[begin + tap, left:right], src[min(begin + tap + 1, last), left:right]
            c, d = src[min(begin + tap + 2, last), left:right], src[min(begin + tap + 3, last), left:right]
            w, x, y, z = table[row, tap], table[row, tap + 1], table[row, tap + 2], table[row, tap + 3]
            for at in range(right - left):
                low = w * np.int32(a[at]) + x * np.int32(b[at])
                sums[at] += low + y * np.int32(c[at]) + z * np.int32(d[at])
        for plane in range(num_planes):
            line, part = out[plane, row], sums[plane * num_columns : (plane + 1) * num_columns]
            for at in range(num_columns):
                line[at] = np.uint8(min(max(part[at] >> _BITS, np.int32(0)), np.int32(255)))
