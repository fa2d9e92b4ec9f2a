"""The rows that evaluations read, and how one of them is shown. Measures nothing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from open_clip.errors import DataError
from training.data import IMAGES, TEXTS, Batch, EvalLoader, Source, read_image, read_text, sample_seed

NO_ROW: Final = "no validation row could be read: see bad_samples.jsonl in the run folder for the reasons."


@dataclass(frozen=True)
class ValidationRows:
    """The rows of ``--val-data``.

    Attributes:
        loader: This process's share.
        receive: Brings a batch to the device and accounts for rows that could not be read.
        source: All rows.
        seed: The seed that evaluation draws with where a row has several captions.
        max_pixels: Pixels of the largest image that is opened.
    """

    loader: EvalLoader
    receive: Callable[[Batch], Batch]
    source: Source
    seed: int = 0
    max_pixels: int = 10**9

    def batches(self) -> Iterator[Batch]:
        """Yield this process's share in order, on the device; rows that cannot be read are left out."""
        for batch in self.loader:
            received = self.receive(batch)
            # Counted by their keys: rows may have no image and no text.
            if received.keys:
                yield received

    def caption(self, row: int) -> str:
        """Give the caption of a row as it was evaluated, of several the one that was scored; empty without captions."""
        column = self.loader.column(TEXTS)
        return "" if column is None else read_text(self.source, row, sample_seed(self.seed, 0, row), column)

    @property
    def have_images(self) -> bool:
        """Whether there is an image to show of a row."""
        return self.loader.column(IMAGES) is not None

    def open_image(self, row: int) -> tuple[str, Image.Image | None]:
        """Give the file name of a row's image and the image; None when it cannot be read."""
        name, column = Path(self.source.image_path(row)).name, self.loader.column(IMAGES)
        try:
            return name, None if column is None else read_image(self.source, row, column).open(self.max_pixels)
        except DataError:
            return name, None

    def close(self) -> None:
        """Stop the processes that read; a later pass starts new ones."""
        self.loader.close()


@dataclass(frozen=True)
class ClassSet:
    """Images whose classes are to be found.

    Attributes:
        name: Beginning of its metrics, such as ``imagenet-zeroshot-val``.
        loader: This process's share; a batch has class numbers, int64 [B], as its value ``labels``.
        classnames: [C] in the order of the numbers.
        receive: Brings a batch to the device.
    """

    name: str
    loader: EvalLoader
    classnames: tuple[str, ...]
    receive: Callable[[Batch], Batch]
