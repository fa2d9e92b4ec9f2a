"""The files that lie beside an image under its name, and reading a column from one of them."""

import os
from collections.abc import Container, Iterable, Sequence

from open_clip.errors import DataError
from open_clip.files import read_plain
from training.data.members import MemberColumn


class Beside(Container[str]):
    """The files beside one image: those of its name with another suffix."""

    def __init__(self, image: str) -> None:
        self.stem = os.path.splitext(image)[0]

    def __contains__(self, suffix: object) -> bool:
        return os.path.lexists(f"{self.stem}.{suffix}")

    def why_not(self, columns: Iterable[MemberColumn]) -> str | None:
        """Say which of some columns has no file here; None where all have one."""
        return next((f"{one.lacking} beside it" for one in columns if one.choose(self) is None), None)

    def read(self, column: MemberColumn, seed: int) -> object:
        """Read a column's value from the file that is there.

        Raises:
            DataError: as `MemberColumn.read`, or there is no file that could be read.
        """
        way = column.choose(self)
        if way is None:
            raise DataError(f"{column.lacking} beside it")
        suffix = column.ways[way].suffix
        try:
            content = read_plain(f"{self.stem}.{suffix}", column.limit(way))
        except OSError as error:
            raise DataError(f"{column.name} ({suffix}) cannot be read: {error.strerror or error}") from None
        return column.read(way, content, seed)

    def suffixes(self) -> list[str]:
        """List which files there are."""
        folder, stem = os.path.split(self.stem)
        names = sorted(os.listdir(folder or os.curdir))
        return [name.removeprefix(f"{stem}.") for name in names if name.startswith(f"{stem}.")]


def rows_of(images: Iterable[str], columns: Sequence[MemberColumn]) -> list[str]:
    """Leave out the images that such a column reads, NAME.depth.png beside NAME.png: they are no rows of their own."""
    others = tuple(f".{way.suffix}" for column in columns for way in column.ways)
    return [image for image in images if not (others and image.lower().endswith(others))]
