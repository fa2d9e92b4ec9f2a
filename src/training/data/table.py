"""Pairs of image path and caption in a few flat arrays.

Holds no images and no per-row Python objects: forked workers share the arrays without ever copying them. It reads
single images when asked, and no lists of them; `csv.py` and `folder.py` fill it.
"""

from array import array
from collections.abc import Sequence
from os.path import basename

import numpy as np
import numpy.typing as npt

from training.data.decode import ImageFile
from training.data.fingerprint import digest_names, short_digest
from training.data.order import IntArray, SampleOrder, epoch_order
from training.data.quarantine import Fault
from training.data.source import IMAGE, TEXT


class TextColumn:
    """Strings as one blob of UTF-8 bytes and their offsets.

    Args:
        blob: all strings, one after the other.
        offsets: int64 [n + 1], where each string starts; the last is the length of the blob.
    """

    def __init__(self, blob: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        self.blob = blob
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        return self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes().decode("utf-8")


class PairTable:
    """The usable rows of one source, with the rows that were refused beside them.

    Args:
        source: the file or folder that was read.
        paths: one entry for each different image.
        captions: one entry for each row.
        image_ids: int64 [n], position of each row's image in ``paths``; rows of one image share it.
        rows: int64 [n], 1-based line of each row in the source.
        faults: rows refused while reading.
    """

    def __init__(
        self,
        source: str,
        paths: TextColumn,
        captions: TextColumn,
        image_ids: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        faults: Sequence[Fault] = (),
    ) -> None:
        self.source = source
        self.faults = tuple(faults)
        self.columns: tuple[str, ...] = (IMAGE, TEXT)
        self.arrangement = ""
        self._paths = paths
        self._texts = {TEXT: captions}
        self._image_ids = image_ids
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def num_images(self) -> int:
        """Number of different images."""
        return len(self._paths)

    @property
    def num_rows_read(self) -> int:
        """Number of rows the source holds, refused ones included."""
        return len(self) + len(self.faults)

    @property
    def contents(self) -> str:
        """Number of rows, digests of the captions and of the images' names, with which rows share one."""
        names = digest_names(self._paths[image] for image in range(len(self._paths)))
        images = short_digest([names.encode(), self._image_ids])
        text = self._texts[TEXT]
        captions = short_digest([text.offsets, text.blob])
        return f"rows {len(self)}, captions {captions}, images {images}"

    def image_path(self, index: int) -> str:
        """Return the path of a row's image."""
        return self._paths[int(self._image_ids[index])]

    def read(self, column: str, index: int, seed: int = 0) -> object:
        """Return a row's image or its caption as it was written; it has one, so the seed chooses nothing."""
        return ImageFile(self.image_path(index)) if column == IMAGE else self._texts[column][index]

    def epoch_order(self, seed: int, epoch: int) -> IntArray:
        """Return which rows an epoch visits: each once."""
        return epoch_order(len(self), seed, epoch)

    def announce(self, order: SampleOrder, position: int) -> None:
        """Do nothing: files of a table are where they are."""

    def row(self, index: int) -> int:
        """Return the 1-based line of a row in its source."""
        return int(self._rows[index])

    def image_id(self, index: int) -> int:
        """Return the number of a row's image."""
        return int(self._image_ids[index])

    def key(self, index: int) -> str:
        """Return the identity of a row, ``file:row``."""
        return f"{basename(self.source)}:{self.row(index)}"

    def fault(self, index: int, reason: str) -> Fault:
        """Describe why a row cannot be used."""
        return Fault(self.source, self.row(index), self.image_path(index), reason)


class ColumnBuilder:
    """A text column that grows."""

    def __init__(self) -> None:
        self._blob = bytearray()
        self._offsets = array("q", [0])

    def append(self, text: str) -> None:
        """Add a string."""
        self._blob += text.encode("utf-8")
        self._offsets.append(len(self._blob))

    def finish(self) -> TextColumn:
        """Return the column."""
        return TextColumn(np.frombuffer(bytes(self._blob), dtype=np.uint8), np.array(self._offsets, dtype=np.int64))


class TableBuilder:
    """Collects rows, good and refused, into a table."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.faults: list[Fault] = []
        self._paths = ColumnBuilder()
        self._captions = ColumnBuilder()
        self._image_ids = array("q")
        self._rows = array("q")
        self._id_of_path: dict[str, int] = {}

    def add(self, row: int, path: str, caption: str) -> None:
        """Add a row whose image exists and whose caption is sound."""
        image_id = self._id_of_path.get(path)
        if image_id is None:
            image_id = self._id_of_path[path] = len(self._id_of_path)
            self._paths.append(path)
        self._captions.append(caption)
        self._image_ids.append(image_id)
        self._rows.append(row)

    def refuse(self, row: int, path: str, reason: str) -> None:
        """Note a row that cannot be used."""
        self.faults.append(Fault(self.source, row, path, reason))

    def finish(self) -> PairTable:
        """Return the table."""
        return PairTable(
            self.source,
            self._paths.finish(),
            self._captions.finish(),
            np.array(self._image_ids, dtype=np.int64),
            np.array(self._rows, dtype=np.int64),
            self.faults,
        )
