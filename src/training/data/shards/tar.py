"""The members of a tar file by their headers alone: names, offsets and sizes; no member's bytes are read.

It follows POSIX ustar and pax and GNU's long names. It unpacks nothing and follows no link.
"""

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from open_clip.errors import DataError, printable

_BLOCK: Final = 512
_READ_BYTES: Final = 8192
_ZERO_BLOCK: Final = bytes(_BLOCK)
# Of one member, over all its extension headers; a long name takes hundreds of bytes, access rights a few thousand.
_MAX_EXTENSION_BYTES: Final = 1 << 20
_MAX_PAX_RECORDS: Final = 10_000
_MAX_DIGITS: Final = 19
_MAX_SHOWN: Final = 200
# Writers pad a tar by less than this behind its end mark.
_PADDING_BYTES: Final = 1 << 16
_REGULAR: Final = frozenset(b"0\x007")
# Links, devices, folders and pipes have no bytes, whatever size their header names.
_WITHOUT_BYTES: Final = frozenset(b"123456")
_GNU_LONG_NAME, _PAX, _GNU_SPARSE = ord("L"), ord("x"), ord("S")
# These tell of the member behind them; those of long link targets and of all members hold nothing that is read.
_EXTENSIONS: Final = frozenset(b"LKxg")
_COMPRESSED: Final = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))


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
        TornTarError: a header is broken or of unreasonable size, a member goes beyond the end of the file, the end mark
            is missing, or a second archive stands behind it; says at which byte. Members yielded before are whole.
    """
    num_bytes = os.fstat(descriptor).st_size
    if num_bytes == 0:
        raise TornTarError("the file is empty")
    window = _Window(descriptor)
    position, name, size, extension_bytes = 0, None, None, 0
    while position < num_bytes:
        header = window.block(position)
        if header == _ZERO_BLOCK:
            _refuse_second_archive(window, position, num_bytes)
            return
        kind = _check_header(header, position)
        # A pax size counts for the member behind it, whose own field may be too short for the number.
        own_size = _number(header[124:136]) if size is None or kind in _EXTENSIONS else size
        own_size = 0 if kind in _WITHOUT_BYTES else own_size
        start = position + _BLOCK
        if start + own_size > num_bytes:
            raise TornTarError(f"cut short at byte {num_bytes}, inside {_shown(name, header)}")
        position = start + -(-own_size // _BLOCK) * _BLOCK
        if kind in _EXTENSIONS:
            extension_bytes += own_size
            if extension_bytes > _MAX_EXTENSION_BYTES:
                raise TornTarError(
                    f"extension headers up to byte {start} claim {extension_bytes:,} bytes for one member, over the "
                    f"limit of {_MAX_EXTENSION_BYTES:,}"
                )
            if kind == _GNU_LONG_NAME:
                name = _decode(os.pread(descriptor, own_size, start))
            elif kind == _PAX:
                name, size = _read_pax(os.pread(descriptor, own_size, start), name)
            continue
        if kind == _GNU_SPARSE:
            raise TornTarError(f"{_shown(name, header)} is stored sparse, which is not read")
        if kind in _REGULAR:
            yield Member(name if name is not None else _name(header), start, own_size)
        name, size, extension_bytes = None, None, 0
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
    if not _is_header(header):
        raise TornTarError(_why_no_tar(header) if position == 0 else f"the header at byte {position} is broken")
    return header[156]


def _is_header(block: bytes) -> bool:
    try:
        expected = _number(block[148:156])
    except TornTarError:
        return False
    # The checksum counts its own field as spaces.
    return sum(block) - sum(block[148:156]) + 8 * 0x20 == expected


def _why_no_tar(start: bytes) -> str:
    kind = next((kind for magic, kind in _COMPRESSED if start.startswith(magic)), None)
    if kind is None:
        return "not a tar file"
    return f"it is compressed with {kind}: unpack it first, or stream it with --shard-order buffer"


def _refuse_second_archive(window: _Window, position: int, num_bytes: int) -> None:
    """Tell when more members stand behind an end mark, as in files that were joined with ``cat``."""
    for place in range(position, min(position + _PADDING_BYTES, num_bytes - _BLOCK + 1), _BLOCK):
        block = window.block(place)
        if block != _ZERO_BLOCK:
            if _is_header(block):
                raise TornTarError(f"a second archive begins at byte {place}, behind the end mark; it is not read")
            return


def _number(field: bytes) -> int:
    """Read an octal number, or GNU's base 256 for large files."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise TornTarError("a header holds a negative number")
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip()
    try:
        value = int(digits or b"0", 8)
    except ValueError:
        raise TornTarError("a header holds no number where one belongs") from None
    if value < 0:
        raise TornTarError("a header holds a negative number")
    return value


def _shown(name: str | None, header: bytes) -> str:
    return f"'{printable(name or _name(header), _MAX_SHOWN)}'"


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0", 1)[0], header[345:500].split(b"\0", 1)[0]
    has_prefix = header[257:263] == b"ustar\0" and prefix
    return _decode(prefix + b"/" + name if has_prefix else name)


def _decode(name: bytes) -> str:
    return name.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _read_pax(content: bytes, name: str | None) -> tuple[str | None, int | None]:
    """Read ``length key=value`` records; only path and size matter here."""
    size: int | None = None
    start = 0
    for _ in range(_MAX_PAX_RECORDS):
        if start == len(content):
            return name, size
        space = content.find(b" ", start, start + _MAX_DIGITS + 1)
        digits = content[start : max(space, start)]
        stop = start + int(digits) if digits.isdigit() else start
        if not start < space < stop <= len(content):
            raise TornTarError("a pax header is broken")
        key, _, value = content[space + 1 : stop - 1].partition(b"=")
        start = stop
        if key == b"path":
            name = _decode(value)
        elif key == b"size":
            if not value.isdigit() or len(value) > _MAX_DIGITS:
                raise TornTarError("a pax header holds no size")
            size = int(value)
        elif key == b"GNU.sparse.major":
            raise TornTarError("a member is stored sparse, which is not read")
    raise TornTarError(f"a pax header holds more than {_MAX_PAX_RECORDS:,} records")
