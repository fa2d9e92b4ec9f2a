"""What the bytes of a file are known by: its size and the SHA-256 of each piece of it.

Pieces let several threads compare one file, and say where a damaged one is damaged. Knows nothing of what is in it.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PIECE_BYTES = 64 << 20
_READ_BYTES = 4 << 20
_MAX_THREADS = 8


@dataclass(frozen=True)
class Digest:
    """Size of a file in bytes and the SHA-256, in hex, of each ``PIECE_BYTES`` of it."""

    size: int
    sha256: tuple[str, ...]


class RunningDigest:
    """Digest of bytes that arrive in order."""

    def __init__(self) -> None:
        self._size = 0
        self._done: list[str] = []
        self._piece = hashlib.sha256()

    def update(self, data: bytes | memoryview) -> None:
        """Take in the next bytes."""
        view = memoryview(data).cast("B")
        while len(view):
            room = PIECE_BYTES - self._size % PIECE_BYTES
            part, view = view[:room], view[room:]
            self._piece.update(part)
            self._size += len(part)
            if self._size % PIECE_BYTES == 0:
                self._done.append(self._piece.hexdigest())
                self._piece = hashlib.sha256()

    def finish(self) -> Digest:
        """Give the digest of all bytes so far."""
        last = [self._piece.hexdigest()] if self._size % PIECE_BYTES else []
        return Digest(self._size, (*self._done, *last))


def digest_file(path: Path, *, from_disk: bool = False) -> Digest:
    """Read a file and give its digest; several threads share the pieces.

    Args:
        path: The file.
        from_disk: Have the system forget what it holds of the file in memory first, so that the disk is asked.
    """
    size = path.stat().st_size
    if from_disk and hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    starts = range(0, size, PIECE_BYTES)
    with ThreadPoolExecutor(max_workers=min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        return Digest(size, tuple(pool.map(lambda start: _digest_piece(path, start), starts)))


def _digest_piece(path: Path, start: int) -> str:
    # Read, not mapped: a disk that fails under a mapping kills the process instead of raising.
    piece = hashlib.sha256()
    left = PIECE_BYTES
    buffer = memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while left and (count := file.readinto(buffer[: min(left, _READ_BYTES)])):
            piece.update(buffer[:count])
            left -= count
    return piece.hexdigest()
