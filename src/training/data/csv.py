"""Rows from a separated text file, columns by name.

It checks texts and looks up every image, and opens none. Quotes and lines are the business of `records.py`.
"""

import logging
import os
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from open_clip.errors import DataError, cut_list, printable, suggest_nearest
from training.data.decode import IMAGE_SUFFIXES, ImageFinder
from training.data.encoding import open_text, read_lines, why_not_caption, why_not_text
from training.data.kind import SourceKind, SourceRequest
from training.data.records import RecordReader, TableRecord
from training.data.source import IMAGE, TEXT, MissingColumns
from training.data.table import PairTable, TableBuilder

_LOGGER = logging.getLogger(__name__)
_USUAL_SEPARATORS: Final = ("\t", ",", "|", ";")
# These two have flags of their own beside --columns.
_FLAGS: Final = {IMAGE: "--csv-img-key", TEXT: "--csv-caption-key"}


class CsvKind(SourceKind):
    """``csv``: a table of image paths and texts; ``auto`` takes what is nothing else, or not there, for one."""

    def claims(self, request: SourceRequest) -> bool:
        """Take what no other kind takes: its reader knows what to say of a file that is not there."""
        return True

    def check(self, request: SourceRequest) -> None:
        """Check that the table can be opened and has the columns; reads no row."""
        check_csv(request.path, request.data.csv_separator, _names_in_header(request))

    def open(self, request: SourceRequest) -> PairTable:
        """Read the table."""
        return read_csv(request.path, request.data.csv_separator, _names_in_header(request), further_images(request))


def _names_in_header(request: SourceRequest) -> dict[str, str]:
    usual = {IMAGE: request.data.csv_img_key, TEXT: request.data.csv_caption_key}
    return {name: request.own_name(name) or usual.get(name, name) for name in request.columns}


def further_images(request: SourceRequest) -> tuple[str, ...]:
    """List the columns that hold images beside ``image``."""
    return tuple(name for name in request.image_columns if name != IMAGE)


def read_csv_pairs(
    path: str | os.PathLike[str], separator: str = "\t", img_key: str = "filepath", caption_key: str = "title"
) -> PairTable:
    """Read image-caption pairs as `read_csv` does, under the names that CsvDataset of open_clip_torch 3.3.0 expects."""
    return read_csv(path, separator, {IMAGE: img_key, TEXT: caption_key})


def read_csv(
    path: str | os.PathLike[str], separator: str, columns: Mapping[str, str], path_columns: Collection[str] = ()
) -> PairTable:
    """Read some columns of a file with a header.

    Rows that cannot be used (an empty text, no such image, broken text, too many fields) are left out and stand in the
    table's ``faults``. A relative image path is taken from the current directory, then from the file's own folder.

    Args:
        path: the file; UTF-8, or UTF-16 or UTF-32 with a byte order mark.
        separator: what stands between fields, one or more characters.
        columns: from the table's names of columns to the header's; ``image`` holds paths of images, any other text.
        path_columns: those of ``columns`` that hold paths of further images; they are looked up as the others are.

    Raises:
        ConfigError: the separator is not usable; MissingColumns where the header lacks a column.
        DataError: the file is missing, empty or not text, it has no column of images or captions, or no row is usable.
    """
    path = os.fspath(path)
    builder = TableBuilder(path, tuple(columns), path_columns=path_columns)
    finder = ImageFinder(os.path.dirname(os.path.abspath(path)))
    with open_text(path) as handle:
        records = RecordReader(read_lines(handle), separator)
        layout = _find_columns(path, next(records, None), records.separator, columns)
        records.is_row = layout.is_row
        for record in records:
            _add(builder, finder, record, layout)
    if records.stray_quote_rows:
        _LOGGER.warning(
            "%s: %d rows hold a quote that is never closed; it was read as a character. Rows: %s",
            printable(path),
            len(records.stray_quote_rows),
            cut_list(records.stray_quote_rows),
        )
    return finish_table(builder)


def check_csv(path: str | os.PathLike[str], separator: str, columns: Mapping[str, str]) -> None:
    """Check that a table can be opened and has the columns; reads no row. Arguments and errors as `read_csv`."""
    path = os.fspath(path)
    with open_text(path) as handle:
        records = RecordReader(read_lines(handle), separator)
        _find_columns(path, next(records, None), records.separator, columns)


def finish_table(builder: TableBuilder) -> PairTable:
    """Return the table of a source that has been read to its end.

    Raises:
        DataError: not one row is usable.
    """
    table = builder.finish()
    if len(table):
        return table
    if not table.faults:
        raise DataError(
            f"{printable(table.source)} has no row below its header. Check that the whole file was written."
        )
    examples = "\n  ".join(str(fault) for fault in table.faults[:3])
    raise DataError(
        f"None of the {len(table.faults)} rows of {printable(table.source)} is usable. The first:\n  {examples}\n"
        "Check the image paths, the column names and the separator."
    )


class _Layout(NamedTuple):
    """Where a row has what: its number of fields, the image path (None without), and the texts by name."""

    num_fields: int
    image: int | None
    texts: dict[str, int]

    def is_row(self, fields: list[str]) -> bool:
        """Tell whether a line looks like a row of its own, which no quoted field runs over."""
        return self.image is not None and len(fields) == self.num_fields and _looks_like_image(fields[self.image])

    def why_not(self, record: TableRecord, image: str) -> str | None:
        """Say what is wrong with a row, whatever lies at its image path."""
        fields, limit = record.fields, self.num_fields
        if record.problem is not None:
            return record.problem
        if len(fields) > limit and any(field.strip() for field in fields[limit:]):
            return f"{len(fields)} fields where the header has {limit}; put quotes around text with separators"
        for name, position in self.texts.items():
            shown = "caption" if name == TEXT else f"column {name!r}"
            reason = why_not_caption(fields[position], shown) if position < len(fields) else f"no {shown} field"
            if reason is not None:
                return reason
        reason = why_not_text(image)
        return f"image path {reason}" if reason else None


def _add(builder: TableBuilder, finder: ImageFinder, record: TableRecord, layout: _Layout) -> None:
    fields = record.fields
    image = fields[layout.image] if layout.image is not None and layout.image < len(fields) else ""
    problem, found = layout.why_not(record, image), image
    if problem is None and layout.image is not None:
        found, problem = finder.find(image)
    further: dict[str, str] = {}
    for name in builder.path_columns if problem is None else ():
        further[name], reason = finder.find(fields[layout.texts[name]])
        problem = problem or (reason and f"column {name!r}: {reason}")
    if problem is not None:
        builder.refuse(record.row, printable(image[:300]), problem)
    else:
        texts = [fields[position] for position in layout.texts.values()]
        if further:
            texts = [further.get(name, text) for name, text in zip(layout.texts, texts, strict=True)]
        builder.add(record.row, found, *texts)


def _looks_like_image(text: str) -> bool:
    return os.path.splitext(text.strip())[1].lower() in IMAGE_SUFFIXES


def _find_columns(path: str, header: TableRecord | None, separator: str, columns: Mapping[str, str]) -> _Layout:
    """Return where the header has the columns.

    Raises:
        DataError: there is no header, or it lacks the column of images or of captions.
        MissingColumns: it lacks another one.
    """
    if header is None:
        raise DataError(f"{printable(path)} is empty. It needs a header line and one row for each image-caption pair.")
    names = header.fields
    stripped = [name.strip() for name in names]
    positions: dict[str, int] = {}
    for column, key in columns.items():
        if key in names:
            positions[column] = names.index(key)
        elif key.strip() in stripped:
            positions[column] = stripped.index(key.strip())
        elif column in _FLAGS:
            raise DataError(
                _no_column(printable(path), [name[:80] for name in names[:1000]], separator, key, _FLAGS[column])
            )
    if len(positions) < len(columns):
        raise MissingColumns(path, [name for name in columns if name not in positions], [name[:80] for name in names])
    image = positions.pop(IMAGE, None)
    return _Layout(len(names), image, positions)


def _no_column(path: str, names: list[str], separator: str, key: str, flag: str) -> str:
    shown = [printable(name) for name in names]
    quoted = [f"'{name}'" for name in shown]
    message = f"{path} has no column {key!r}. Columns found: {cut_list(quoted)}."
    others = [other for other in _USUAL_SEPARATORS if other != separator and any(other in name for name in names)]
    if len(names) == 1 and others:
        advice = f"the file seems to use {others[0]!r}: pass --csv-separator {others[0]!r}."
        return f"{message} The separator is {separator!r}; {advice}"
    if any(_looks_like_image(name) for name in names):
        return f"{message} The first line looks like a row: add a header line that names the columns."
    return f"{message}{suggest_nearest(key, shown)} Pass the column's name with {flag}."
