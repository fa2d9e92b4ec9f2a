"""What the dataset asks of any source of rows: a table of paths, shards, or made-up rows.

It says how rows are named and read, column by column; a source decides no batch and transforms nothing.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from os.path import basename
from typing import Final, Protocol

from open_clip.errors import ConfigError, DataError, cut_list, printable, suggest_nearest
from training.data.decode import StoredImage
from training.data.order import SampleOrder, epoch_order
from training.data.quarantine import Fault

IMAGE: Final = "image"
TEXT: Final = "text"


class MissingColumns(ConfigError):
    """Data lacks columns that are asked for.

    Attributes:
        missing: the columns it lacks.
        there: what it has instead, in its own words.
    """

    def __init__(self, source: str, missing: Sequence[str], there: Iterable[str]) -> None:
        self.missing = tuple(missing)
        self.there = tuple(there)
        noun = "column" if len(self.missing) == 1 else "columns"
        names = ", ".join(printable(repr(name), 100) for name in self.missing)
        super().__init__(
            f"{printable(source, 300)} has no {noun} {names}.{suggest_nearest(self.missing[0], self.there)} It has: "
            f"{cut_list(self.there, 20) or 'nothing'}. Say which one is meant with --columns {self.missing[0]}=COLUMN."
        )


class MissingKey(DataError):
    """A file of named values has none of a name; ``there`` are those it has."""

    def __init__(self, message: str, there: Iterable[str]) -> None:
        super().__init__(message)
        self.there = tuple(there)


def refuse_missing(source: str, asked: Iterable[str], there: Sequence[str]) -> None:
    """Refuse columns that are not there.

    Raises:
        MissingColumns: naming them and those that are there.
    """
    missing = [name for name in asked if name not in there]
    if missing:
        raise MissingColumns(source, missing, there)


class Source(Protocol):
    """Rows of named columns, by position.

    A class derived from it must say ``source``, ``columns``, its length and how it reads; the rest is answered here for
    rows that each have an image of their own and are visited once an epoch. Worker processes get a copy, forked or
    pickled: what they cannot share, such as a connection, is opened where it is first read.

    Attributes:
        source: what was read, for messages.
        columns: names of the columns that it was opened for, which `read` takes.
        faults: rows refused before the first was read; they are no positions.
        arrangement: what the order of an epoch depends on besides seed, epoch and number of rows; empty for nothing.
    """

    source: str
    columns: tuple[str, ...]
    faults: tuple[Fault, ...] = ()
    arrangement: str = ""

    @property
    def contents(self) -> str:
        """What the rows hold, in parts such as ``rows 40, captions 5d1e``: a run goes on only with data of the same."""
        return f"rows {len(self)}"

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def num_images(self) -> int:
        """Number of different images."""
        return len(self) if IMAGE in self.columns else 0

    @property
    def num_rows_read(self) -> int:
        """Number of rows the source holds, refused ones included."""
        return len(self) + len(self.faults)

    def epoch_order(self, seed: int, epoch: int) -> SampleOrder:
        """Return which rows an epoch visits, as a pure function of seed and epoch."""
        return epoch_order(len(self), seed, epoch)

    def announce(self, order: SampleOrder, position: int) -> None:
        """Hear how far the reading of an order has come, in the main process, to fetch what comes next."""
        return

    @abstractmethod
    def read(self, column: str, index: int, seed: int = 0) -> object:
        """Return one column of one row: a `StoredImage` of ``image``, a string of ``text``.

        Args:
            column: one of ``columns``.
            index: the row.
            seed: draws one value where the row holds several, such as captions.

        Raises:
            DataError: the row has no usable value there; the text is the reason, in one line.
        """

    def image_path(self, index: int) -> str:
        """Return where a row's image is, for people; empty where there is nothing to say."""
        return ""

    def image_id(self, index: int) -> int:
        """Return the number of a row's image, any integer; rows of one image share it."""
        return index

    def key(self, index: int) -> str:
        """Return the identity of a row."""
        return f"{basename(self.source)}:{index + 1}"

    def fault(self, index: int, reason: str) -> Fault:
        """Describe why a row cannot be used."""
        return Fault(self.source, index + 1, self.image_path(index), reason)


def read_image(source: Source, index: int, column: str = IMAGE) -> StoredImage:
    """Return a row's image, not yet decoded.

    Raises:
        DataError: the row has none, or the column holds something else.
    """
    image = source.read(column, index)
    if not isinstance(image, StoredImage):
        raise DataError(f"column {column!r} holds no image but a {type(image).__name__}")
    return image


def read_text(source: Source, index: int, seed: int = 0, column: str = TEXT) -> str:
    """Return a row's text, where it has several the one that the seed draws.

    Raises:
        DataError: the row has none, or the column holds something else.
    """
    text = source.read(column, index, seed)
    if not isinstance(text, str):
        raise DataError(f"column {column!r} holds no text but a {type(text).__name__}")
    return text
