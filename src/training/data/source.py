"""What the dataset asks of any source of pairs: a table of paths, shards, or made-up rows.

It says how rows are named and read; a source decides no batch and transforms nothing.
"""

from typing import Protocol

from PIL import Image

from open_clip.transform.direct import ImageLike
from training.data.order import SampleOrder
from training.data.quarantine import Fault


class PairSource(Protocol):
    """Rows of one image and one caption each, by position.

    Attributes:
        source: what was read, for messages.
        faults: rows refused before the first was read; they are no positions.
        arrangement: what the order of an epoch depends on besides seed, epoch and number of rows; empty for nothing.
    """

    source: str
    faults: tuple[Fault, ...]
    arrangement: str

    @property
    def contents(self) -> str:
        """What the rows hold, in parts such as ``rows 40, captions 5d1e`` that tell other data apart."""

    def __len__(self) -> int: ...

    @property
    def num_images(self) -> int:
        """Number of different images."""

    @property
    def num_rows_read(self) -> int:
        """Number of rows the source holds, refused ones included."""

    def epoch_order(self, seed: int, epoch: int) -> SampleOrder:
        """Return which rows an epoch visits, as a pure function of seed and epoch."""

    def announce(self, order: SampleOrder, position: int) -> None:
        """Hear how far the reading of an order has come, in the main process, to fetch what comes next."""

    def open_image(self, index: int, max_pixels: int) -> Image.Image:
        """Read a row's image; DataError when it cannot be used."""

    def open_pixels(self, index: int, max_pixels: int) -> ImageLike:
        """Read a row's image for a `DirectTransform`; DataError when it cannot be used."""

    def caption(self, index: int, seed: int = 0) -> str:
        """Return a row's caption, where it has several the one that the seed draws; DataError when it has none."""

    def image_path(self, index: int) -> str:
        """Return where a row's image is, for people."""

    def image_id(self, index: int) -> int:
        """Return the number of a row's image; rows of one image share it."""

    def key(self, index: int) -> str:
        """Return the identity of a row."""

    def fault(self, index: int, reason: str) -> Fault:
        """Describe why a row cannot be used."""
