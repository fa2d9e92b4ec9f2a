"""Pairs from a folder: Flickr30k as `tools/flickr30k_handle.py` leaves it, or pictures with captions beside them.

It converts no annotation files; where one lies unconverted, the error names the tool that does.
"""

import os
from typing import Final

from open_clip.errors import DataError, cut_list, printable
from training.data.csv import check_csv_pairs, finish_table, read_csv_pairs
from training.data.decode import PICTURE_SUFFIXES, why_not_a_file
from training.data.encoding import open_text, read_lines, why_not_caption
from training.data.table import PairTable, TableBuilder

_LISTS: Final = {
    "train": ("flickr30k_train.csv",),
    "val": ("flickr30k_val.csv", "flickr30k_test.csv"),
    "test": ("flickr30k_test.csv",),
}
_LIST_FORM: Final = {"separator": ",", "img_key": "img_key", "caption_key": "caption_key"}
_ANNOTATIONS: Final = (
    "results_20130124.token",
    "results.csv",
    "dataset_flickr30k.json",
    "flickr_annotations_30k.csv",
    "flickr30k_train_karpathy.txt",
)


def read_folder_pairs(path: str | os.PathLike[str], split: str) -> PairTable:
    """Read the pairs of a folder.

    A folder with ``flickr30k_train.csv`` and ``flickr30k_test.csv`` (columns img_key, caption_key) gives the one of the
    split asked for. Any other folder is searched, sub-folders included, for pictures with a text file of the same name
    beside them, one caption a line; there the row of a pair is its running number in path order.

    Args:
        path: the folder.
        split: ``train``, ``val`` or ``test``; ``val`` falls back to the test list.

    Raises:
        DataError: the folder is missing or holds neither form, or no row is usable.
    """
    path = os.fspath(path)
    found = _find_pairs(path, split)
    if isinstance(found, str):
        return read_csv_pairs(found, **_LIST_FORM)
    builder, row = TableBuilder(path), 0
    for picture in found:
        row = _add_picture(builder, picture, row)
    return finish_table(builder)


def check_folder_pairs(path: str | os.PathLike[str], split: str) -> None:
    """Refuse what `read_folder_pairs` would refuse before it looks at any row.

    Raises:
        DataError: as there.
    """
    found = _find_pairs(os.fspath(path), split)
    if isinstance(found, str):
        check_csv_pairs(found, **_LIST_FORM)


def _find_pairs(path: str, split: str) -> str | list[str]:
    """Find the list of a split, or else the pictures."""
    if not os.path.isdir(path):
        raise DataError(f"{printable(path, 300)} is no folder. Give the folder that holds the images.")
    for name in _LISTS[split]:
        list_path = os.path.join(path, name)
        if os.path.lexists(list_path):
            return list_path
    if any(os.path.lexists(os.path.join(path, name)) for names in _LISTS.values() for name in names):
        raise DataError(_nothing_found(path, split))
    pictures = _find_pictures(path)
    if not any(os.path.lexists(_sidecar(picture)) for picture in pictures):
        raise DataError(_nothing_found(path, split, len(pictures)))
    return pictures


def _find_pictures(folder: str) -> list[str]:
    found = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        found += [os.path.join(root, name) for name in names if os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES]
    return sorted(found)


def _sidecar(picture: str) -> str:
    return os.path.splitext(picture)[0] + ".txt"


def _add_picture(builder: TableBuilder, picture: str, row: int) -> int:
    """Add the captions of one picture after ``row`` and return the last row used; a picture without any uses one."""
    shown = printable(picture)
    problem = why_not_a_file(picture)
    if problem is None and not os.path.lexists(_sidecar(picture)):
        problem = "no caption file of the same name beside it"
    if problem is None and (shown != picture):
        problem = "picture path is not valid text; rename the file"
    if problem is not None:
        builder.refuse(row + 1, shown, problem)
        return row + 1
    first = row
    try:
        with open_text(_sidecar(picture)) as handle:
            for line in read_lines(handle):
                caption = line.text.rstrip("\r\n")
                if not caption.strip():
                    continue
                row += 1
                problem = "caption line is too long" if line.is_cut else why_not_caption(caption)
                if problem is None:
                    builder.add(row, picture, caption)
                else:
                    builder.refuse(row, shown, f"{problem} (line {line.number} of its caption file)")
    except DataError as error:
        builder.refuse(row + 1, shown, f"caption file: {error}")
        return row + 1
    if row == first:
        builder.refuse(row + 1, shown, "caption file is empty")
        return row + 1
    return row


def _nothing_found(path: str, split: str, num_pictures: int = 0) -> str:
    shown = printable(path)
    message = (
        f"{shown} holds no {split} data. Looked for {cut_list(_LISTS[split])}, and for pictures with a .txt file of "
        f"the same name beside them ({num_pictures} pictures, none with a .txt file)."
    )
    lying = [name for name in _ANNOTATIONS if os.path.lexists(os.path.join(path, name))]
    if lying:
        return f"{message}\n{lying[0]} lies there: run  python tools/flickr30k_handle.py --data_path {shown}  first."
    return f"{message}\nGive a Flickr30k folder, add caption files, or pass a CSV file instead of a folder."
