"""Pairs that need no files: one black image and one caption, as many times as asked. For trying a set-up out."""

from typing import Final

import numpy as np
from PIL import Image

from open_clip.transform.direct import ImageLike
from training.data.table import PairTable, TableBuilder

CAPTION: Final = "Dummy caption"
_NAME: Final = "synthetic"


class SyntheticTable(PairTable):
    """A table whose rows all hold the same black image and the same caption.

    Args:
        num_samples: rows.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Source: SyntheticDataset of open_clip_torch 3.3.0 (image and caption).
    """

    def __init__(self, num_samples: int, height: int, width: int) -> None:
        builder = TableBuilder(_NAME)
        builder.add(1, _NAME, CAPTION)
        one = builder.finish()
        # The row arrays are views of one number: a table of a billion rows takes no memory.
        zeros = np.broadcast_to(np.int64(0), num_samples)
        super().__init__(_NAME, one._paths, one._captions, zeros, zeros)
        self._height = height
        self._width = width

    @property
    def contents(self) -> str:
        """Their number: one row is like another."""
        return f"rows {len(self)}"

    def open_image(self, index: int, max_pixels: int) -> Image.Image:
        """Make the image."""
        return Image.new("RGB", (self._width, self._height))

    def open_pixels(self, index: int, max_pixels: int) -> ImageLike:
        """Make the image."""
        return self.open_image(index, max_pixels)

    def caption(self, index: int, seed: int = 0) -> str:
        """Return the caption."""
        return CAPTION

    def row(self, index: int) -> int:
        """Return a row's number, from 1."""
        return index + 1
