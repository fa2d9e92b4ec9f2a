"""Upstream's data sets of single pairs: items are (image, token ids), in the order of the file.

The trainer reads the same sources with `dataset.py`, which replaces rows that cannot be used.
"""

import logging
from collections.abc import Callable, Sequence

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from open_clip import tokenize
from open_clip.errors import cut_list, printable
from open_clip.transform import ConvertMode
from training.data.classes import read_class_folder
from training.data.csv import read_csv_pairs
from training.data.images import Transform
from training.data.source import read_image, read_text

Tokenize = Callable[..., Tensor]
_LOGGER = logging.getLogger(__name__)


def preprocess_txt(text: str) -> Tensor:
    """Turn a caption into token ids with the default tokenizer, int64 [L]."""
    return tokenize([str(text)])[0]


def first_row(tokenizer: Tokenize | None, text: str) -> Tensor:
    """Tokenize one caption; without a tokenizer, with the default one."""
    return preprocess_txt(text) if tokenizer is None else tokenizer([text])[0]


class CsvDataset(Dataset[tuple[object, Tensor]]):
    """Pairs of a separated text file.

    Rows that cannot be used (no caption, no such image) are left out with a warning when the file is read.

    Args:
        input_filename: a table with a header, of which ``img_key`` and ``caption_key`` are columns.
        tokenizer: from a list of captions to token ids; the default one when None.

    Raises:
        DataError: the file or a column is missing, or no row is usable.
    """

    def __init__(
        self,
        input_filename: str,
        transforms: Transform,
        img_key: str,
        caption_key: str,
        sep: str = "\t",
        tokenizer: Tokenize | None = None,
    ) -> None:
        self.table = read_csv_pairs(input_filename, sep, img_key, caption_key)
        if self.table.faults:
            faults = self.table.faults
            _LOGGER.warning(
                "%d rows of %s are unusable: %s", len(faults), printable(input_filename), cut_list(faults, 3)
            )
        self.transforms = transforms
        self.tokenize = tokenizer

    @property
    def images(self) -> Sequence[str]:
        """Paths of the images, row by row."""
        return [self.table.image_path(index) for index in range(len(self))]

    @property
    def captions(self) -> Sequence[str]:
        """Captions, row by row."""
        return [read_text(self.table, index) for index in range(len(self))]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, idx: int) -> tuple[object, Tensor]:
        """Read a pair; an image that cannot be read raises DataError."""
        image = self.transforms(read_image(self.table, idx).open())
        return image, first_row(self.tokenize, read_text(self.table, idx))


class SyntheticDataset(Dataset[tuple[object, Tensor]]):
    """One black image with one caption, again and again.

    Args:
        transform: from an image to a tensor; without one, items hold the image.
        image_size: height and width of the image, or its side.
    """

    def __init__(
        self,
        transform: Transform | None = None,
        image_size: int | tuple[int, int] = (224, 224),
        caption: str = "Dummy caption",
        dataset_size: int = 100,
        tokenizer: Tokenize | None = None,
    ) -> None:
        self.transform = transform
        self.image_size = image_size
        self.caption = caption
        self.image = Image.new("RGB", _width_and_height(image_size))
        self.dataset_size = dataset_size
        self.tokenizer = tokenizer

    def preprocess_txt(self, text: str) -> Tensor:
        """Turn a caption into token ids."""
        return preprocess_txt(text) if self.tokenizer is None else self.tokenizer(text)[0]

    def __len__(self) -> int:
        return self.dataset_size

    def __getitem__(self, idx: int) -> tuple[object, Tensor]:
        """Give the pair."""
        image = self.image if self.transform is None else self.transform(self.image)
        return image, self.preprocess_txt(self.caption)


class ClassFolderDataset(Dataset[tuple[object, int]]):
    """Images of a folder of class folders with the number of their class.

    Args:
        transform: from an RGB image to a tensor.
        by_number: class folders are called 0, 1, 2, ... as ImageNet-V2's are.

    Attributes:
        classes: names of the class folders in their order.
        targets: the class of each image.
    """

    def __init__(self, root: str, transform: Transform, by_number: bool = False) -> None:
        self.table, self.classes = read_class_folder(root, by_number)
        self.transform = transform
        numbers = {name: number for number, name in enumerate(self.classes)}
        self.targets = [numbers[read_text(self.table, index)] for index in range(len(self.table))]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, idx: int) -> tuple[object, int]:
        """Read an image; one that cannot be read raises DataError."""
        return self.transform(ConvertMode()(read_image(self.table, idx).open())), self.targets[idx]


def _width_and_height(image_size: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(image_size, int):
        return image_size, image_size
    height, width = image_size
    return width, height
