"""Pairs from a separated text file: one row a pair, columns by name.

It checks captions and looks up every image, and opens none. Quotes and lines are the business of `records.py`.
"""

import logging
import os
from typing import Final

from open_clip.errors import DataError, cut_list, printable, suggest_nearest
from training.data.decode import IMAGE_SUFFIXES, ImageFinder
from training.data.encoding import open_text, read_lines, why_not_caption, why_not_text
from training.data.kind import SourceKind, SourceRequest
from training.data.records import Record, RecordReader
from training.data.table import PairTable, TableBuilder

_LOGGER = logging.getLogger(__name__)
_USUAL_SEPARATORS: Final = ("\t", ",", "|", ";")


class CsvKind(SourceKind):
    """``csv``: a table of image paths and captions; ``auto`` takes what is nothing else, or not there, for one."""

    def claims(self, request: SourceRequest) -> bool:
        """Take what no other kind takes: its reader knows what to say of a file that is not there."""
        return True

    def check(self, request: SourceRequest) -> None:
        """Check that the table can be opened and has both columns; reads no row."""
        data = request.data
        check_csv_pairs(request.path, data.csv_separator, data.csv_img_key, data.csv_caption_key)

    def open(self, request: SourceRequest) -> PairTable:
        """Read the table."""
        data = request.data
        return read_csv_pairs(request.path, data.csv_separator, data.csv_img_key, data.csv_caption_key)


def read_csv_pairs(
    path: str | os.PathLike[str], separator: str = "\t", img_key: str = "filepath", caption_key: str = "title"
) -> PairTable:
    """Read a file with a header and one image-caption pair a row.

    Rows that cannot be used (no caption, no such image, broken text, too many fields) are left out and stand in the
    table's ``faults``. A relative image path is taken from the current directory, then from the file's own folder.

    Args:
        path: the file; UTF-8, or UTF-16 or UTF-32 with a byte order mark.
        separator: what stands between fields, one or more characters.
        img_key: name of the column of image paths.
        caption_key: name of the column of captions.

    Raises:
        ConfigError: the separator is not usable.
        DataError: the file is missing, empty or not text, a column is missing, or no row is usable.

    Source: defaults and the meaning of relative paths as CsvDataset of open_clip_torch 3.3.0.
    """
    path = os.fspath(path)
    builder = TableBuilder(path)
    finder = ImageFinder(os.path.dirname(os.path.abspath(path)))
    with open_text(path) as handle:
        records = RecordReader(read_lines(handle), separator)
        header = next(records, None)
        img_column, caption_column, num_columns = _find_columns(path, header, records.separator, img_key, caption_key)
        records.is_row = lambda fields: len(fields) == num_columns and _looks_like_image(fields[img_column])
        for record in records:
            _add(builder, finder, record, img_column, caption_column, num_columns)
    if records.stray_quote_rows:
        _LOGGER.warning(
            "%s: %d rows hold a quote that is never closed; it was read as a character. Rows: %s",
            printable(path),
            len(records.stray_quote_rows),
            cut_list(records.stray_quote_rows),
        )
    return finish_table(builder)


def check_csv_pairs(
    path: str | os.PathLike[str], separator: str = "\t", img_key: str = "filepath", caption_key: str = "title"
) -> None:
    """Check that a table can be opened and has both columns; reads no row. Arguments and errors as `read_csv_pairs`."""
    path = os.fspath(path)
    with open_text(path) as handle:
        records = RecordReader(read_lines(handle), separator)
        _find_columns(path, next(records, None), records.separator, img_key, caption_key)


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


def _add(
    builder: TableBuilder, finder: ImageFinder, record: Record, img_column: int, caption_column: int, num_columns: int
) -> None:
    fields = record.fields
    image = fields[img_column] if img_column < len(fields) else ""
    problem = record.problem
    if problem is None and len(fields) > num_columns and any(field.strip() for field in fields[num_columns:]):
        problem = f"{len(fields)} fields where the header has {num_columns}; put quotes around text with separators"
    if problem is None and len(fields) <= caption_column:
        problem = "no caption field"
    if problem is None:
        problem = why_not_caption(fields[caption_column])
    if problem is None and (reason := why_not_text(image)):
        problem = f"image path {reason}"
    if problem is not None:
        builder.refuse(record.row, printable(image[:300]), problem)
        return
    found, problem = finder.find(image)
    if problem is not None:
        builder.refuse(record.row, printable(image[:300]), problem)
    else:
        builder.add(record.row, found, fields[caption_column])


def _looks_like_image(text: str) -> bool:
    return os.path.splitext(text.strip())[1].lower() in IMAGE_SUFFIXES


def _find_columns(
    path: str, header: Record | None, separator: str, img_key: str, caption_key: str
) -> tuple[int, int, int]:
    """Return the positions of the image and caption columns and the number of columns."""
    if header is None:
        raise DataError(f"{printable(path)} is empty. It needs a header line and one row for each image-caption pair.")
    names = header.fields
    stripped = [name.strip() for name in names]
    positions = []
    for key, flag in ((img_key, "--csv-img-key"), (caption_key, "--csv-caption-key")):
        if key in names:
            positions.append(names.index(key))
        elif key.strip() in stripped:
            positions.append(stripped.index(key.strip()))
        else:
            raise DataError(_no_column(printable(path), [name[:80] for name in names[:1000]], separator, key, flag))
    return positions[0], positions[1], len(names)


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
