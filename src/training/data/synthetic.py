"""Pairs that need no files: one black image and one caption, as many times as asked. For trying a set-up out."""

from typing import Final

import numpy as np
from PIL import Image

from open_clip.errors import ConfigError
from training.data.decode import DEFAULT_MAX_PIXELS, StoredImage
from training.data.kind import SourceKind, SourceRequest
from training.data.source import IMAGE, TEXT, refuse_missing
from training.data.table import PairTable, TableBuilder

CAPTION: Final = "Dummy caption"
_NAME: Final = "synthetic"


class BlackImage(StoredImage):
    """A black image of a size, made when it is opened."""

    def __init__(self, height: int, width: int) -> None:
        self._size = width, height

    def open(self, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
        """Make the image."""
        return Image.new("RGB", self._size)


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
        super().__init__(_NAME, one._texts, zeros, paths=one._paths, image_ids=zeros)
        self._image = BlackImage(height, width)

    @property
    def contents(self) -> str:
        """Their number: one row is like another."""
        return f"rows {len(self)}"

    def read(self, column: str, index: int, seed: int = 0) -> object:
        """Return the one image or the one caption, whatever the row."""
        return self._image if column == IMAGE else self._texts[column][0]

    def row(self, index: int) -> int:
        """Return a row's number, from 1."""
        return index + 1


class SyntheticKind(SourceKind):
    """``synthetic``: ``--train-num-samples`` black images of the size that the transform makes."""

    needs_path = False

    def check(self, request: SourceRequest) -> None:
        """Check that no further column is asked for."""
        refuse_missing(_NAME, request.columns, (IMAGE, TEXT))

    def open(self, request: SourceRequest) -> SyntheticTable:
        """Make the table."""
        if request.shards.train_num_samples is None:
            raise ConfigError("--dataset-type synthetic needs --train-num-samples N, the number of pairs of an epoch.")
        return SyntheticTable(request.shards.train_num_samples, *request.image_size)
