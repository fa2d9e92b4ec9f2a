"""The members of a tar file by their headers alone: names, offsets and sizes; no member's bytes are read.

It follows POSIX ustar and pax and GNU's long names. It unpacks nothing and follows no link.
"""

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from open_clip.errors import DataError

_BLOCK: Final = 512
_READ_BYTES: Final = 8192
_ZERO_BLOCK: Final = bytes(_BLOCK)
_MAX_EXTENSION_BYTES: Final = 1 << 20
_REGULAR: Final = frozenset(b"0\x007")
_GNU_LONG_NAME, _PAX = ord("L"), ord("x")
_GNU_SPARSE: Final = ord("S")


class Member(NamedTuple):
    """One regular file in a tar: its name and where its bytes stand."""

    name: str
    offset: int
    size: int


class TornTarError(DataError):
    """The rest of a tar cannot be read; what came before is sound."""


def read_members(descriptor: int) -> Iterator[Member]:
    """Yield the regular files of a tar, in their order.

    Args:
        descriptor: an open tar file; its position is not used.

    Raises:
        TornTarError: a header is broken, a member goes beyond the end of the file, or the end mark is missing; says at
            which byte. Members yielded before are whole.
    """
    num_bytes = os.fstat(descriptor).st_size
    if num_bytes == 0:
        raise TornTarError("the file is empty")
    window = _Window(descriptor)
    position, name, size = 0, None, None
    while position < num_bytes:
        header = window.block(position)
        if header == _ZERO_BLOCK:
            return
        kind = _check_header(header, position)
        own_size = _number(header[124:136]) if size is None or kind == _PAX else size
        start = position + _BLOCK
        if start + own_size > num_bytes:
            raise TornTarError(f"cut short at byte {num_bytes}, inside {name or _name(header)!r}")
        position = start + -(-own_size // _BLOCK) * _BLOCK
        if kind in (_GNU_LONG_NAME, _PAX):
            if own_size > _MAX_EXTENSION_BYTES:
                raise TornTarError(f"extension header at byte {start - _BLOCK} claims {own_size:,} bytes")
            content = os.pread(descriptor, own_size, start)
            if kind == _GNU_LONG_NAME:
                name = _decode(content)
            else:
                name, size = _read_pax(content, name)
            continue
        if kind in _REGULAR:
            yield Member(name if name is not None else _name(header), start, own_size)
        if kind == _GNU_SPARSE:
            raise TornTarError(f"{name or _name(header)!r} is stored sparse, which is not read")
        name, size = None, None
    raise TornTarError(f"ends at byte {num_bytes} without an end mark: it was cut short or is still being written")


class _Window:
    """Headers of neighbouring small members from one read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._start = 0
        self._bytes = b""

    def block(self, position: int) -> bytes:
        """Return the 512 bytes at a position."""
        offset = position - self._start
        if not 0 <= offset <= len(self._bytes) - _BLOCK:
            self._start, offset = position, 0
            self._bytes = os.pread(self._descriptor, _READ_BYTES, position)
        block = self._bytes[offset : offset + _BLOCK]
        if len(block) < _BLOCK:
            raise TornTarError(f"cut short at byte {position + len(block)}, inside a header")
        return block


def _check_header(header: bytes, position: int) -> int:
    """Return the kind of a member; refuse what is no header."""
    try:
        expected = _number(header[148:156])
    except TornTarError:
        expected = -1
    # The checksum counts its own field as spaces.
    if sum(header) - sum(header[148:156]) + 8 * 0x20 != expected:
        what = "not a tar file" if position == 0 else f"the header at byte {position} is broken"
        hint = "; it is compressed: unpack it first" if position == 0 and _is_compressed(header) else ""
        raise TornTarError(what + hint)
    return header[156]


def _is_compressed(start: bytes) -> bool:
    return start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))


def _number(field: bytes) -> int:
    """Read an octal number, or GNU's base 256 for large files."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip()
    try:
        value = int(digits or b"0", 8)
    except ValueError:
        raise TornTarError("a header holds no number where one belongs") from None
    if value < 0:
        raise TornTarError("a header holds a negative number")
    return value


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0", 1)[0], header[345:500].split(b"\0", 1)[0]
    has_prefix = header[257:263] == b"ustar\0" and prefix
    return _decode(prefix + b"/" + name if has_prefix else name)


def _decode(name: bytes) -> str:
    return name.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _read_pax(content: bytes, name: str | None) -> tuple[str | None, int | None]:
    """Read ``length key=value`` records; only path and size matter here."""
    size: int | None = None
    while content:
        length_text, _, _ = content.partition(b" ")
        if not length_text.isdigit() or not 0 < int(length_text) <= len(content):
            raise TornTarError("a pax header is broken")
        key, _, value = content[len(length_text) + 1 : int(length_text) - 1].partition(b"=")
        content = content[int(length_text) :]
        if key == b"path":
            name = _decode(value)
        elif key == b"size":
            if not value.isdigit():
                raise TornTarError("a pax header holds no size")
            size = int(value)
    return name, size
