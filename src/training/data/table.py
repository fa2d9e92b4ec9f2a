"""Rows of image paths and texts in a few flat arrays.

Holds no images and no per-row Python objects: forked workers share the arrays without ever copying them. It reads
single images when asked, and no lists of them; `csv.py` and `folder.py` fill it.
"""

from array import array
from collections.abc import Collection, Mapping, Sequence
from os.path import basename

import numpy as np
import numpy.typing as npt

from training.data.beside import Beside
from training.data.columns import ColumnBuilder, TextColumn
from training.data.decode import ImageFile
from training.data.fingerprint import digest_names, short_digest
from training.data.members import MemberColumn
from training.data.quarantine import Fault
from training.data.source import IMAGE, TEXT, Source


class PairTable(Source):
    """The usable rows of one source, with the rows that were refused beside them.

    Args:
        source: the file or folder that was read.
        texts: the columns of text by their names, one entry for each row.
        rows: int64 [n], 1-based line of each row in the source.
        faults: rows refused while reading.
        paths: one entry for each different image; None for rows without images.
        image_ids: int64 [n], position of each row's image in ``paths``; rows of one image share it.
        files: columns of files beside the images.
        path_columns: those of ``texts`` that are paths of further images.

    Attributes:
        classes: names of the classes that the column ``label`` numbers; empty where they have none.
    """

    def __init__(
        self,
        source: str,
        texts: Mapping[str, TextColumn],
        rows: npt.NDArray[np.int64],
        faults: Sequence[Fault] = (),
        *,
        paths: TextColumn | None = None,
        image_ids: npt.NDArray[np.int64] | None = None,
        files: Sequence[MemberColumn] = (),
        path_columns: Collection[str] = (),
    ) -> None:
        self.source = source
        self._path_columns = frozenset(path_columns)
        self._files = {column.name: column for column in files}
        images = (IMAGE,) if paths is not None else ()
        self.columns: tuple[str, ...] = tuple(dict.fromkeys((*images, *texts, *self._files)))
        self.classes: tuple[str, ...] = ()
        self.faults = tuple(faults)
        self._texts = dict(texts)
        self._rows = rows
        self._paths = paths
        self._image_ids = image_ids

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def num_images(self) -> int:
        """Number of different images."""
        return 0 if self._paths is None else len(self._paths)

    @property
    def contents(self) -> str:
        """Number of rows, digests of the texts and of the images' names, with which rows share one."""
        parts = [f"rows {len(self)}"]
        if TEXT in self._texts:
            parts.append(f"captions {_digest(self._texts[TEXT])}")
        if self._paths is not None and self._image_ids is not None:
            names = _digest_names(self._paths)
            parts.append(f"images {short_digest([names.encode(), self._image_ids])}")
        others = []
        for name, column in sorted(self._texts.items()):
            if name != TEXT:
                digest = _digest_names(column) if name in self._path_columns else _digest(column)
                others.append(f"{name}\0{digest}\0")
        others += [f"{name}\0{';'.join(map(str, files.ways))}\0" for name, files in sorted(self._files.items())]
        # Data of images and captions alone keeps the words that older checkpoints hold.
        return ", ".join([*parts, f"columns {short_digest([''.join(others).encode()])}"] if others else parts)

    def image_path(self, index: int) -> str:
        """Return the path of a row's image; empty where rows have none."""
        return "" if self._paths is None else self._paths[self.image_id(index)]

    def read(self, column: str, index: int, seed: int = 0) -> object:
        """Return one of a row's images, one of its texts as it was written, or what a file beside its image holds.

        Raises:
            DataError: the file is not there, or cannot be used.
        """
        if column == IMAGE:
            return ImageFile(self.image_path(index))
        if column in self._files:
            return Beside(self.image_path(index)).read(self._files[column], seed)
        text = self._texts[column][index]
        return ImageFile(text) if column in self._path_columns else text

    def row(self, index: int) -> int:
        """Return the 1-based line of a row in its source."""
        return int(self._rows[index])

    def image_id(self, index: int) -> int:
        """Return the number of a row's image; without images each row is its own."""
        return index if self._image_ids is None else int(self._image_ids[index])

    def key(self, index: int) -> str:
        """Return the identity of a row, ``file:row``."""
        return f"{basename(self.source)}:{self.row(index)}"

    def fault(self, index: int, reason: str) -> Fault:
        """Describe why a row cannot be used."""
        return Fault(self.source, self.row(index), self.image_path(index), reason)


def _digest(column: TextColumn) -> str:
    return short_digest([column.offsets, column.blob])


def _digest_names(paths: TextColumn) -> str:
    return digest_names(paths[place] for place in range(len(paths)))


class TableBuilder:
    """Collects rows, good and refused, into a table.

    Args:
        columns: names of what each row has; ``image`` is an image, any other a text.
        path_columns: those of ``columns`` whose texts are paths of further images.
    """

    def __init__(
        self,
        source: str,
        columns: Sequence[str] = (IMAGE, TEXT),
        files: Sequence[MemberColumn] = (),
        path_columns: Collection[str] = (),
    ) -> None:
        self.source = source
        self.faults: list[Fault] = []
        self.columns = tuple(columns)
        self.files = tuple(files)
        self.path_columns = path_columns
        self._has_images = IMAGE in columns
        self._paths = ColumnBuilder()
        self._texts = {name: ColumnBuilder() for name in columns if name != IMAGE}
        self._image_ids = array("q")
        self._rows = array("q")
        self._id_of_path: dict[str, int] = {}

    def add(self, row: int, path: str, *texts: str) -> None:
        """Add a row whose image exists and whose texts, in the order of their columns, are sound."""
        for column, text in zip(self._texts.values(), texts, strict=True):
            column.append(text)
        self._rows.append(row)
        if self._has_images:
            image_id = self._id_of_path.get(path)
            if image_id is None:
                image_id = self._id_of_path[path] = len(self._id_of_path)
                self._paths.append(path)
            self._image_ids.append(image_id)

    def refuse(self, row: int, path: str, reason: str) -> None:
        """Note a row that cannot be used."""
        self.faults.append(Fault(self.source, row, path, reason))

    def finish(self) -> PairTable:
        """Return the table."""
        return PairTable(
            self.source,
            {name: column.finish() for name, column in self._texts.items()},
            np.array(self._rows, dtype=np.int64),
            self.faults,
            paths=self._paths.finish() if self._has_images else None,
            image_ids=np.array(self._image_ids, dtype=np.int64) if self._has_images else None,
            files=self.files,
            path_columns=self.path_columns,
        )
