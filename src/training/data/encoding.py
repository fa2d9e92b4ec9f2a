"""Text of any origin: byte order marks, wrong encodings, endless lines, captions that are none.

It finds lines, not fields; `records.py` goes on from here.
"""

import codecs
from collections.abc import Iterator
from typing import Final, NamedTuple, TextIO

from open_clip.errors import DataError, printable
from open_clip.files import open_plain
from open_clip.tokenizer.cleaning import why_not_cleanable

MAX_LINE_CHARS: Final = 1 << 20
# Longer ones are no captions, from whatever source.
MAX_CAPTION_CHARS: Final = 100_000
# As many characters cannot take more in UTF-8.
MAX_CAPTION_BYTES: Final = 4 * MAX_CAPTION_CHARS
_SNIFF_BYTES: Final = 4096
_MARK_BROKEN: Final = "openclip-mark-broken"
# The UTF-32 mark starts with the UTF-16 one: longest first.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_FILES: Final = (
    (b"\x1f\x8b", "a gzip file: unpack it first"),
    (b"PK\x03\x04", "a zip or Excel file: unpack it, or save the sheet as CSV"),
    (b"PAR1", "a Parquet file: write it out as CSV"),
    (b"\xff\xd8\xff", "a JPEG image: give the table or the folder that names it"),
    (b"\x89PNG", "a PNG image: give the table or the folder that names it"),
    (b"BZh", "a bzip2 file: unpack it first"),
    (b"\xfd7zXZ", "an xz file: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file: unpack it first"),
)


class Line(NamedTuple):
    """One line with its ending; ``is_cut`` when it was longer than the limit and only its start is kept."""

    number: int
    text: str
    is_cut: bool


def open_text(path: str) -> TextIO:
    """Open a text file by its byte order mark, as UTF-8 without one; bytes that do not decode become surrogates.

    Raises:
        DataError: the file is missing, empty, not a regular file, or plainly not text.
    """
    try:
        with open_plain(path) as file:
            start = file.read(_SNIFF_BYTES)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"Cannot read {printable(path)}: {reason}. Check the path and its permissions.") from None
    if not start.strip():
        raise DataError(f"{printable(path)} is empty. It needs a header line and one row for each image-caption pair.")
    for magic, advice in _OTHER_FILES:
        if start.startswith(magic):
            raise DataError(f"{printable(path)} is not text but {advice}.")
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    if encoding is None and b"\0" in start.split(b"\n", 1)[0]:
        raise DataError(
            f"{printable(path)} has NUL bytes in its first line: it is UTF-16 without a byte order mark, or not text. "
            "Save it as UTF-8, for instance with: iconv -f UTF-16LE -t UTF-8"
        )
    errors = _MARK_BROKEN if encoding in ("utf-16", "utf-32") else "surrogateescape"
    return open(path, encoding=encoding or "utf-8", errors=errors, newline="")


def _mark_broken(error: UnicodeError) -> tuple[str, int]:
    """Put a lone surrogate where bytes do not decode; `surrogateescape` knows no such way for UTF-16."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end


codecs.register_error(_MARK_BROKEN, _mark_broken)


def read_lines(handle: TextIO) -> Iterator[Line]:
    """Yield the lines of a file with their 1-based numbers, never holding more than the limit of one."""
    number = 0
    while text := handle.readline(MAX_LINE_CHARS):
        number += 1
        is_cut = len(text) == MAX_LINE_CHARS and not text.endswith(("\n", "\r"))
        rest = text
        while is_cut and rest and not rest.endswith(("\n", "\r")):
            rest = handle.readline(MAX_LINE_CHARS)
        yield Line(number, text, is_cut)


def why_not_text(text: str) -> str | None:
    """Say in a few words why a decoded string cannot be trusted; None when it can."""
    if "\0" in text:
        return "holds a NUL character"
    if not _encodes(text):
        return "is not valid text in the file's encoding; save the file as UTF-8 (GB18030: iconv -f GB18030 -t UTF-8)"
    return None


def why_not_caption(caption: str, name: str = "caption") -> str | None:
    """Say in a few words why a text cannot be trained on; None when it can. The word "nan" is a word.

    Args:
        caption: the text.
        name: what the words call it.
    """
    if not caption.strip():
        return f"{name} is empty"
    if len(caption) > MAX_CAPTION_CHARS:
        return f"{name} of {len(caption):,} characters is over the limit of {MAX_CAPTION_CHARS:,}"
    reason = why_not_text(caption) or why_not_cleanable(caption)
    return f"{name} {reason}" if reason else None


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
