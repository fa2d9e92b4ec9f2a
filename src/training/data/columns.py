"""Columns of text in two flat arrays: forked workers share them without ever copying them."""

from array import array

import numpy as np
import numpy.typing as npt


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
