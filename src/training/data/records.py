"""Rows of a separated text file, with quotes read as RFC 4180 has them and no row ever swallowed.

It knows fields, not columns; `csv.py` gives them a meaning.
"""

import csv
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from open_clip.errors import ConfigError
from training.data.encoding import MAX_LINE_CHARS, Line

_MAX_QUOTED_LINES: Final = 100
# Characters that may be looked through in vain for the end of a quote, a character read; a line costs by itself too.
_CREDIT_SHARE: Final = 4
_LINE_COST: Final = 50
# Stands in for a separator of several characters, which the standard reader does not take.
_STAND_IN: Final = "\x1f"


class TableRecord(NamedTuple):
    """One row: the line it starts on and its fields, or why it could not be split."""

    row: int
    fields: list[str]
    problem: str | None = None


class RecordReader:
    r"""Iterates over the rows of a file.

    A quoted field may go over several lines. A quote that never closes properly, or that would take in a line which is
    itself a row, is a stray one: it is read as a character of its line, and the lines after it stay rows.

    Args:
        lines: the lines of the file.
        separator: what stands between fields; ``\t`` spelt out means a tab.

    Raises:
        ConfigError: the separator cannot separate anything.
    """

    def __init__(self, lines: Iterator[Line], separator: str) -> None:
        self.separator = "\t" if separator == "\\t" else separator
        if not self.separator or any(char in self.separator for char in '"\r\n'):
            raise ConfigError(
                f"{separator!r} cannot separate fields. Give --csv-separator a character such as ',' or a tab."
            )
        self.is_row: Callable[[list[str]], bool] = lambda fields: False
        self.stray_quote_rows: list[int] = []
        self._lines = lines
        self._waiting: deque[Line] = deque()
        self._credit = MAX_LINE_CHARS

    def __iter__(self) -> "RecordReader":
        return self

    def __next__(self) -> TableRecord:
        line = self._next_line()
        while line is not None and not line.text.strip(" \r\n"):
            line = self._next_line()
        if line is None:
            raise StopIteration
        if line.is_cut:
            start = self._split(line.text[:4096])
            return TableRecord(line.number, start, f"line is longer than {MAX_LINE_CHARS:,} characters")
        if '"' not in line.text:
            return TableRecord(line.number, self._split(line.text))
        try:
            fields, is_open = self._parse([line.text])
            if is_open:
                fields = self._close_quote(line)
        except csv.Error as error:
            return TableRecord(line.number, self._split(line.text[:4096]), f"row cannot be split: {error}")
        return TableRecord(line.number, fields)

    def _next_line(self) -> Line | None:
        if self._waiting:
            return self._waiting.popleft()
        line = next(self._lines, None)
        if line is not None:
            self._credit += _CREDIT_SHARE * (len(line.text) + _LINE_COST)
        return line

    def _split(self, text: str) -> list[str]:
        return text.rstrip("\r\n").split(self.separator)

    def _parse(self, texts: Iterable[str], strict: bool = False) -> tuple[list[str], bool]:
        """Return the fields of one row and whether a quote is still open at its end."""
        multi = len(self.separator) > 1
        feed = _Feed(text.replace(self.separator, _STAND_IN) if multi else text for text in texts)
        try:
            fields = next(csv.reader(feed, delimiter=_STAND_IN if multi else self.separator, strict=strict))
        except csv.Error:
            if not feed.is_drained:
                raise
            return [], True
        if multi:
            fields = [field.replace(_STAND_IN, self.separator) for field in fields]
        return fields, feed.is_drained

    def _close_quote(self, first: Line) -> list[str]:
        """Find the line that closes the quote left open on ``first``; without one, take the quote as a character."""
        taken: list[Line] = []
        credit = self._credit
        try:
            fields, is_open = self._parse(self._take(first, taken), strict=True)
        except csv.Error:
            is_open = True
        if not is_open:
            self._credit = max(self._credit, credit)
            return fields
        self._waiting.extendleft(reversed(taken))
        self.stray_quote_rows.append(first.number)
        return self._split(first.text)

    def _take(self, first: Line, taken: list[Line]) -> Iterator[str]:
        """Yield the lines that a field may go over, noting what was taken."""
        yield first.text
        num_chars = len(first.text)
        while len(taken) < _MAX_QUOTED_LINES and num_chars < MAX_LINE_CHARS and self._credit > 0:
            line = self._next_line()
            if line is None:
                return
            taken.append(line)
            num_chars += len(line.text)
            self._credit -= len(line.text) + _LINE_COST
            if line.is_cut or self.is_row(self._split(line.text)):
                return
            yield line.text


class _Feed:
    """Lines for the standard reader that remember whether it asked for one more than there is."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = iter(texts)
        self.is_drained = False

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        try:
            return next(self._texts)
        except StopIteration:
            self.is_drained = True
            raise
