"""A source of rows held in memory, with any columns: what a recipe's own data might look like."""

import numpy as np
from PIL import Image

from open_clip.errors import DataError
from training.data import Fault, Source, StoredImage


class HeldImage(StoredImage):
    """An image of 20 x 24 pixels: of one level, or with noise by that number."""

    num_opened = 0

    def __init__(self, number, is_flat=True):
        self.number = number
        self.is_flat = is_flat

    def open(self, max_pixels=480):
        HeldImage.num_opened += 1
        if max_pixels < 480:
            raise DataError("image is over the limit")
        if self.is_flat:
            return Image.new("RGB", (20, 24), (self.number,) * 3)
        return Image.fromarray(np.random.default_rng(self.number).integers(0, 256, (24, 20, 3), np.uint8))


class ListSource(Source):
    """Rows that are dicts of columns; a value that is an error is what reading it raises, one that is absent DataError.

    Args:
        rows: the rows.
        image_ids: number of each row's image; each its own when None.
    """

    source = "rows in memory"

    def __init__(self, rows, image_ids=None):
        self.rows = rows
        self.columns = tuple(dict.fromkeys(name for row in rows for name in row))
        self._image_ids = image_ids

    def __len__(self):
        return len(self.rows)

    @property
    def num_images(self):
        return len({self.image_id(index) for index in range(len(self))})

    def read(self, column, index, seed=0):
        value = self.rows[index].get(column, DataError(f"no {column}"))
        if isinstance(value, Exception):
            raise value
        if isinstance(value, list):
            value = value[np.random.default_rng(seed).integers(len(value))]
        return value

    def image_path(self, index):
        return f"#{index}"

    def image_id(self, index):
        return index if self._image_ids is None else self._image_ids[index]

    def key(self, index):
        return f"memory:{index}"

    def fault(self, index, reason):
        return Fault(self.source, index, self.image_path(index), reason)


def numbered_rows(count):
    """Make rows whose every column tells the row's number."""
    return [
        {
            "image": HeldImage(number, is_flat=False),
            "other_image": HeldImage(number + 100),
            "text": "word " * (number % 5 + 1),
            "short_text": [f"{'a' * (number % 7 + 1)}", f"{'b' * (number % 7 + 11)}"],
            "label": str(number),
            "cls": f"{number % 4}\n".encode(),
            "weight": f"{number / 2}",
            "height": number,
            "teacher": {"image": np.full((2, 3), number, np.float16), "text": np.arange(number)},
        }
        for number in range(count)
    ]
