"""One shard that is being read: its index and its open file."""

import os

from open_clip.errors import DataError, printable
from open_clip.files import open_descriptor
from training.data.shards.index import ShardIndex


class HeldShard:
    """A shard's index and its open file; reads give their position along, so processes may share the file."""

    def __init__(self, index: ShardIndex) -> None:
        self.index = index
        try:
            self._descriptor = open_descriptor(index.path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"shard {printable(index.path)} cannot be opened: {error.strerror}") from None

    def span(self, number: int, member: int) -> tuple[int, int]:
        """Return offset and size of one of a sample's members."""
        if number >= len(self.index):
            raise DataError(f"shard has {len(self.index)} usable samples, fewer than were counted: it was changed")
        offset, size = self.index.spans[number, 2 * member : 2 * member + 2].tolist()
        return offset, size

    def way(self, number: int, further: int) -> int:
        """Return the way that a sample takes to the value of a further column."""
        assert self.index.ways is not None
        return int(self.index.ways[number, further])

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Read a member's bytes."""
        try:
            content = os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise DataError(f"shard cannot be read at byte {offset}: {error.strerror}") from None
        if len(content) < size:
            raise DataError(f"shard ends at byte {offset + len(content)}, inside this sample")
        return content

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
