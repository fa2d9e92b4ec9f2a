"""Decode JPEG images to the pixels that Pillow gives, faster, where simplejpeg is installed.

It decodes what is sound and leaves the rest to Pillow: it refuses nothing and reads no header before Pillow has.
"""

import io
import logging
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

_LOG = logging.getLogger(__name__)
# Images up to this size share a thread's buffer; fresh memory costs a third of the decoding.
_BUFFER_BYTES: Final = 16 * 1024 * 1024
_SUBSAMPLINGS: Final = ("444", "422", "420", "440", "411")

Pixels = npt.NDArray[np.uint8]
JpegDecoder = Callable[[bytes, int, int], Pixels | None]
"""Takes a file, width and height; gives pixels [H, W, 3], or None for what Pillow must look at."""


class _Decoder(threading.local):
    """libjpeg-turbo by way of simplejpeg, with the accurate transform and smooth upsampling that Pillow uses."""

    def __init__(self, decode_jpeg: Callable[..., Pixels]) -> None:
        self._decode_jpeg = decode_jpeg
        self._buffer = np.empty(0, dtype=np.uint8)

    def __call__(self, content: bytes, width: int, height: int) -> Pixels | None:
        """Decode a file."""
        size = width * height * 3
        buffer = self._take(size) if size <= _BUFFER_BYTES else np.empty(size, dtype=np.uint8)
        try:
            # Strict: the faintest warning of the library leaves the image to Pillow.
            pixels = self._decode_jpeg(content, "RGB", buffer=buffer, strict=True)
        except ValueError:
            return None
        return pixels if pixels.shape == (height, width, 3) else None

    def _take(self, size: int) -> Pixels:
        if self._buffer.size < size:
            self._buffer = np.empty(size, dtype=np.uint8)
        return self._buffer[:size]


@lru_cache(maxsize=1)
def load_jpeg_decoder() -> JpegDecoder | None:
    """Find the fast decoder and hold it against Pillow on a few small images; None without one."""
    try:
        from simplejpeg import decode_jpeg, encode_jpeg

        decoder = _Decoder(decode_jpeg)
        differing = [kind for kind in _SUBSAMPLINGS if not _meets_pillow(decoder, encode_jpeg, kind)]
    # Speed only: the package may be absent, broken, or not made for this numpy.
    except Exception as error:
        _LOG.debug("JPEG images are decoded by Pillow alone: %s (%s)", error, type(error).__name__)
        return None
    if differing:
        _LOG.debug("JPEG images are decoded by Pillow alone: pixels differ from its own at %s", ", ".join(differing))
        return None
    return decoder


def _meets_pillow(decoder: _Decoder, encode_jpeg: Callable[..., bytes], subsampling: str) -> bool:
    """Compare with Pillow, which may be built on another libjpeg or another release of the same."""
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (45, 67, 3), dtype=np.uint8)
    content = encode_jpeg(noise, quality=80, colorspace="RGB", colorsubsampling=subsampling)
    pixels = decoder(content, 67, 45)
    with Image.open(io.BytesIO(content)) as image:
        return pixels is not None and np.array_equal(pixels, np.asarray(image))
