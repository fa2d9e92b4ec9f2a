"""Rows from a folder: Flickr30k as `tools/flickr30k_handle.py` leaves it, or images with other files beside them.

It converts no annotation files; where one lies unconverted, the error names the tool that does.
"""

import os
from collections.abc import Sequence
from typing import Final

from open_clip.errors import DataError, cut_list, printable
from training.data.beside import Beside, rows_of
from training.data.csv import check_csv, finish_table, further_images, read_csv
from training.data.decode import find_images, why_not_a_file
from training.data.encoding import open_text, read_lines, why_not_caption
from training.data.kind import SourceKind, SourceRequest
from training.data.members import MemberColumn, refuse_missing_keys
from training.data.source import IMAGE, TEXT, MissingColumns
from training.data.table import PairTable, TableBuilder

_LISTS: Final = {
    "train": ("flickr30k_train.csv",),
    "val": ("flickr30k_val.csv", "flickr30k_test.csv"),
}
_NUM_DESCRIBED: Final = 3
_LIST_COLUMNS: Final = {IMAGE: "img_key", TEXT: "caption_key"}
_ANNOTATIONS: Final = (
    "results_20130124.token",
    "results.csv",
    "dataset_flickr30k.json",
    "flickr_annotations_30k.csv",
    "flickr30k_train_karpathy.txt",
)


class FolderKind(SourceKind):
    """``folder``: a Flickr30k-form folder, or images with captions and other files beside them."""

    def claims(self, request: SourceRequest) -> bool:
        """Take every folder."""
        return os.path.isdir(request.path)

    def check(self, request: SourceRequest) -> None:
        """Check that the folder has one of the two forms; looks at no row."""
        found = _find_rows(request.path, request.role, _reads_captions(request))
        if isinstance(found, str):
            check_csv(found, ",", _names_in_list(request))

    def open(self, request: SourceRequest) -> PairTable:
        """Read the folder."""
        found = _find_rows(request.path, request.role, _reads_captions(request))
        if isinstance(found, str):
            return read_csv(found, ",", _names_in_list(request), further_images(request))
        plain = (IMAGE, TEXT) if _reads_captions(request) else (IMAGE,)
        further = [name for name in request.columns if name not in plain]
        files = [MemberColumn.named(name, request.own_name(name)) for name in further]
        return _read_images(request.path, found, plain, files)


def _reads_captions(request: SourceRequest) -> bool:
    """Tell whether the lines of NAME.txt are read: not for other columns alone, nor where --columns gives the text."""
    return TEXT in request.columns and request.own_name(TEXT) is None


def _names_in_list(request: SourceRequest) -> dict[str, str]:
    return {name: request.own_name(name) or _LIST_COLUMNS.get(name, name) for name in request.columns}


def _find_rows(path: str, split: str, needs_captions: bool) -> str | list[str]:
    """Find the list of a split, or else the images.

    Raises:
        DataError: there is no such folder, or nothing of the split in it.
    """
    if not os.path.isdir(path):
        raise DataError(f"{printable(path, 300)} is no folder. Give the folder that holds the images.")
    for name in _LISTS[split]:
        list_path = os.path.join(path, name)
        if os.path.lexists(list_path):
            return list_path
    if any(os.path.lexists(os.path.join(path, name)) for names in _LISTS.values() for name in names):
        raise DataError(_nothing_found(path, split))
    images = find_images(path)
    if not images or (needs_captions and not any("txt" in Beside(image) for image in images)):
        raise DataError(_nothing_found(path, split, len(images)))
    return images


def _read_images(path: str, images: Sequence[str], columns: Sequence[str], files: Sequence[MemberColumn]) -> PairTable:
    """Read a row of each image, or one of each caption where captions are read.

    Raises:
        MissingColumns: no image has a file that a column needs, or what the column needs in it.
        DataError: not one row is usable.
    """
    images = rows_of(images, files)
    builder, row = TableBuilder(path, columns, files), 0
    for image in images:
        row = _add_image(builder, image, row)
    return finish_images(builder, images)


def finish_images(builder: TableBuilder, images: Sequence[str]) -> PairTable:
    """Return the table of images whose files beside them are columns.

    Raises:
        MissingColumns: no image has a file that a column needs, or what the column needs in it.
        DataError: not one row is usable.
    """

    def list_there() -> list[str]:
        return sorted({suffix for image in images[:_NUM_DESCRIBED] for suffix in Beside(image).suffixes()})

    files = builder.files
    lacking = [column.name for column in files if all(column.choose(Beside(image)) is None for image in images)]
    if lacking:
        raise MissingColumns(builder.source, lacking, list_there())
    table = finish_table(builder)
    refuse_missing_keys(table, files, list_there)
    return table


def _add_image(builder: TableBuilder, image: str, row: int) -> int:
    """Add the rows of one image after ``row`` and return the last row used; an image without any uses one."""
    shown, beside = printable(image), Beside(image)
    problem = why_not_a_file(image)
    if problem is None and TEXT in builder.columns and "txt" not in beside:
        problem = "no caption file of the same name beside it"
    if problem is None:
        problem = beside.why_not(builder.files)
    if problem is None and (shown != image):
        problem = "image path is not valid text; rename the file"
    if problem is not None:
        builder.refuse(row + 1, shown, problem)
        return row + 1
    if TEXT in builder.columns:
        return _add_captions(builder, image, row)
    builder.add(row + 1, image)
    return row + 1


def _add_captions(builder: TableBuilder, image: str, row: int) -> int:
    """Add a row for each line of an image's caption file."""
    shown, first = printable(image), row
    try:
        with open_text(f"{Beside(image).stem}.txt") as handle:
            for line in read_lines(handle):
                caption = line.text.rstrip("\r\n")
                if not caption.strip():
                    continue
                row += 1
                problem = "caption line is too long" if line.is_cut else why_not_caption(caption)
                if problem is None:
                    builder.add(row, image, caption)
                else:
                    builder.refuse(row, shown, f"{problem} (line {line.number} of its caption file)")
    except DataError as error:
        builder.refuse(row + 1, shown, f"caption file: {error}")
        return row + 1
    if row == first:
        builder.refuse(row + 1, shown, "caption file is empty")
        return row + 1
    return row


def _nothing_found(path: str, split: str, num_images: int = 0) -> str:
    shown = printable(path)
    message = (
        f"{shown} holds no {split} data. Looked for {cut_list(_LISTS[split])}, and for images with a .txt file of "
        f"the same name beside them ({num_images} images, none with a .txt file)."
    )
    lying = [name for name in _ANNOTATIONS if os.path.lexists(os.path.join(path, name))]
    if lying:
        return f"{message}\n{lying[0]} lies there: run  python tools/flickr30k_handle.py --data_path {shown}  first."
    return f"{message}\nGive a Flickr30k folder, add caption files, or pass a CSV file instead of a folder."
