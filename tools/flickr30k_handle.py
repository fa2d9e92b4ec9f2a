#!/usr/bin/env python3
"""Turn a Flickr30k annotation file into flickr30k_train.csv and flickr30k_test.csv.

It checks that the images are there and opens none of them. Run it in the data folder, or from anywhere with
--data_path. It is one file on the standard library alone, longer than the other tools, because it has to work when it
is copied by itself into the data folder of a machine that has nothing else.
"""

import argparse
import codecs
import contextlib
import csv
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

TEST_ROWS = 1000
IMAGE_FOLDERS = ("flickr30k-images", "flickr30k_images/flickr30k_images", "flickr30k_images", "images", "Images")
HEADER = ("img_key", "caption_key")
LISTS = {split: f"flickr30k_{split}_karpathy.txt" for split in ("train", "val", "test")}
# One line of each text form, and what should stand before the caption: rows with something else there are repaired.
TOKEN_LINE = (re.compile(r"(?P<image>[^\t]+?)#\d+(?P<gap>\s)\s*(?P<caption>.*)"), "\t")
PIPE_LINE = (re.compile(r"(?P<image>[^|]+?)\s*\|\s*\d+\s*(?P<gap>\||\s)\s*(?P<caption>.*)"), "|")
LIST_LINE = (re.compile(r"(?P<image>.+?\.(?:jpe?g|png|webp))(?P<gap>,)(?P<caption>.*)", re.IGNORECASE), ",")

# Header names of the comma-separated forms, in small letters.
IMAGE_COLUMNS = ("image", "image_name", "filename", "file_name", "img_key")
CAPTION_COLUMNS = ("raw", "caption", "comment", "caption_key")
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# A cell that starts like this is a formula to a spreadsheet, which leaves one alone that starts with an apostrophe.
FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


class HandleError(Exception):
    """What went wrong and what to do next, with the exit status: 2 for usage, 3 for data."""

    def __init__(self, message: str, status: int = 3) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Row:
    """One caption: the file and line it stands on, its image, its text, its split where the annotation names one."""

    source: str
    line: int
    image: str
    caption: str
    split: str = ""
    problem: str = ""
    is_repaired: bool = False


@dataclass
class Rows:
    """What an annotation gave: sound rows in file order and refused ones."""

    good: list[Row] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> int:
    """Run the job and return the exit status."""
    options = parse_arguments(arguments)
    try:
        handle(options)
    except HandleError as error:
        print(f"flickr30k_handle: {error}", file=sys.stderr)
        return error.status
    except OSError as error:
        where = error.filename or options.data_path
        print(f"flickr30k_handle: {where}: {error.strerror}", file=sys.stderr)
        return 3
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="flickr30k_handle.py", description="Split Flickr30k into train and test CSV.")
    parser.add_argument("--data_path", "--data-path", default=".", help="data folder (default: the current one)")
    parser.add_argument("--annotation", help="annotation file (default: the first known one in the data folder)")
    parser.add_argument("--images", help="image folder (default: flickr30k-images or a usual variant)")
    parser.add_argument("--split", choices=("last", "karpathy"), default="last", help="last rows, or Karpathy's")
    parser.add_argument("--test_rows", "--test-rows", type=int, help=f"rows of the last split (default {TEST_ROWS})")
    parser.add_argument("--relative", action="store_true", help="write image paths relative to the data folder")
    return parser.parse_args(arguments)


def handle(options: argparse.Namespace) -> None:
    """Do the whole job and report it in counts."""
    folder = Path(os.path.abspath(options.data_path))
    if not folder.is_dir():
        raise HandleError(f"{folder} is not a folder; pass --data_path FOLDER", status=2)
    annotation = find_annotation(folder, options.annotation, options.split)
    rows = check_rows(read_annotation(annotation))
    about_annotation = ", ".join(LISTS.values()) if annotation.name in LISTS.values() else annotation.name
    images = find_images(folder, options.images, rows)
    num_missing = refuse_missing(rows, images)
    list_refused(folder / "flickr30k_refused.csv", rows)
    print(f"read      {len(rows.good) + len(rows.refused):7} rows from {about_annotation}")
    print(f"repaired  {sum(row.is_repaired for row in rows.good):7} rows")
    print(f"refused   {len(rows.refused):7} rows, {num_missing} images missing in {images}")
    if not rows.good:
        raise HandleError(f"no row of {about_annotation} has a caption and an image in {images}; see --images")
    splits, about = split_rows(rows.good, options)
    prefix = Path(os.path.relpath(images, folder)) if options.relative else images
    for name, part in splits.items():
        target = folder / f"flickr30k_{name}.csv"
        write_csv(target, [HEADER, *((str(prefix / row.image), row.caption) for row in part)])
        print(f"wrote     {len(part):7} rows, {count_images(part)} images to {target}")
    print(f"split: {about}")
    if "val" not in splits:
        remove_stale(folder / "flickr30k_val.csv")


def find_annotation(folder: Path, given: str | None, split: str) -> Path:
    """Return the annotation to read; of the Karpathy lists, the one that stands for all three."""
    if given:
        for path in (folder / given, Path(given)):
            if path.is_file():
                return path
        raise HandleError(f"annotation {given} is neither in {folder} nor a path from here", status=2)
    with_split = ("dataset_flickr30k.json", "flickr_annotations_30k.csv", LISTS["train"])
    names = (
        with_split if split == "karpathy" else ("results_20130124.token", "results.csv", *with_split, "captions.txt")
    )
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise HandleError(f"no annotation in {folder}; looked for {', '.join(names)}")


def read_annotation(path: Path) -> Iterator[Row]:
    """Yield the rows of any form, told apart by the file's name and its header."""
    if path.name in LISTS.values():
        for split, name in LISTS.items():
            part = path.parent / name
            if not part.is_file():
                raise HandleError(f"{part} is missing; the Karpathy lists come as three files")
            yield from read_lines(part, LIST_LINE, skip="image,caption", split=split)
    elif path.suffix == ".json":
        yield from read_karpathy_json(path)
    elif columns := find_columns(path):
        yield from read_table(path, columns)
    else:
        form, skip = (PIPE_LINE, "image_name|") if path.suffix == ".csv" else (TOKEN_LINE, "")
        yield from read_lines(path, form, skip)


def find_encoding(path: Path) -> str:
    """Return the encoding of a text file: what its byte order mark says, else UTF-8; another one is refused by name."""
    content = path.read_bytes()
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8-sig")
    advice = f"; save it as UTF-8, for instance with: iconv -f {{}} -t UTF-8 {path.name} > utf8-{path.name}"
    if encoding == "utf-8-sig" and b"\0" in content.split(b"\n", 1)[0]:
        raise HandleError(f"{path} is UTF-16 without a byte order mark, or not text" + advice.format("UTF-16LE"))
    if encoding != "utf-8-sig" or decodes(content, encoding):
        return encoding
    lines = content.splitlines()
    broken = [line for line in lines if not decodes(line, "utf-8")]
    # A few damaged rows are refused one by one; damage seldom leaves a whole file sound in another encoding.
    if len(broken) > 1 and decodes(content, "gb18030"):
        raise HandleError(f"{path} is not UTF-8 but GB18030 (GBK), or Big5{advice.format('GB18030')}")
    if len(broken) > max(10, len(lines) // 100):
        kind = "windows-1252 (Latin-1) or another encoding of 8 bits"
        raise HandleError(f"{path} is not UTF-8 in {len(broken)} lines but {kind}{advice.format('WINDOWS-1252')}")
    return encoding


def decodes(content: bytes, encoding: str) -> bool:
    """Tell whether bytes are text of an encoding."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def open_lines(path: Path) -> TextIO:
    """Open an annotation; what does not decode becomes lone surrogates."""
    encoding = find_encoding(path)
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
    return open(path, encoding=encoding, errors=errors, newline="\n")


def split_commas(text: str) -> list[str]:
    """Return the fields of one comma-separated line; quotes that never close are characters."""
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error:
        return text.split(",")


def find_columns(path: Path) -> tuple[int, int, int | None] | None:
    """Return the columns of image, caption and split that a comma-separated header names; None without one."""
    with open_lines(path) as file:
        names = [name.strip().lower() for name in split_commas(file.readline().rstrip("\r\n"))]
    image, caption = (
        next((names.index(name) for name in known if name in names), None) for known in (IMAGE_COLUMNS, CAPTION_COLUMNS)
    )
    if image is None or caption is None:
        return None
    return image, caption, names.index("split") if "split" in names else None


def read_table(path: Path, columns: tuple[int, int, int | None]) -> Iterator[Row]:
    """Yield the rows of a comma-separated file; a column ``raw`` holds a JSON list of captions."""
    image, caption, split = columns
    with open_lines(path) as file:
        names = split_commas(file.readline().rstrip("\r\n"))
        is_list = names[caption].strip().lower() == "raw"
        for number, line in enumerate(file, start=2):
            text = line.rstrip("\r\n")
            if not text.strip():
                continue
            fields = split_commas(text)
            if caption == len(names) - 1:
                # Text in the last column may hold commas without quotes around it.
                fields[caption:] = [",".join(fields[caption:])] * (len(fields) > caption)
            if len(fields) != len(names):
                yield Row(path.name, number, "", text, problem="not a row of this form")
                continue
            part = fields[split].strip() if split is not None else ""
            captions = read_json_list(fields[caption]) if is_list else [fields[caption]]
            for one in captions:
                yield Row(path.name, number, fields[image].strip(), one, {"restval": "train"}.get(part, part))
            if not captions:
                yield Row(path.name, number, fields[image], fields[caption], problem="not a JSON list of captions")


def read_json_list(text: str) -> list[str]:
    """Return the strings of a JSON list; none where it is something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else []


def read_lines(path: Path, form: tuple[re.Pattern[str], str], skip: str = "", split: str = "") -> Iterator[Row]:
    """Yield a row for each line that is not blank, quotes untouched; ``skip`` is the start of a header line."""
    pattern, gap = form
    with open_lines(path) as file:
        for number, line in enumerate(file, start=1):
            text = line.rstrip("\r\n")
            if not text.strip() or (number == 1 and skip and text.replace(" ", "").startswith(skip)):
                continue
            if match := pattern.fullmatch(text):
                yield Row(path.name, number, match["image"], match["caption"], split, "", match["gap"] != gap)
            else:
                yield Row(path.name, number, "", text, split, problem="not a row of this form")


def read_karpathy_json(path: Path) -> Iterator[Row]:
    """Yield the raw sentences of ``dataset_flickr30k.json``; the line is the running number of the sentence."""
    try:
        number = 0
        for image in json.loads(path.read_text(encoding=find_encoding(path)))["images"]:
            split = {"restval": "train"}.get(image["split"], image["split"])
            for sentence in image["sentences"]:
                number += 1
                caption = sentence["raw"] if isinstance(sentence["raw"], str) else ""
                yield Row(path.name, number, str(image["filename"]), caption, split)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HandleError(f"{path} is not a Karpathy annotation: {type(error).__name__} {error}") from None


def check_rows(found: Iterator[Row]) -> Rows:
    """Part sound rows from those that cannot be used; a line break inside a caption becomes a space."""
    rows = Rows()
    for row in found:
        if any(char in row.caption for char in "\r\n"):
            row.caption, row.is_repaired = " ".join(row.caption.split()), True
        row.caption = row.caption.strip()
        text = row.image + row.caption
        checks = {
            "caption is empty": not row.caption,
            "holds a NUL character": "\0" in text,
            "is not UTF-8": text.encode("utf-8", "replace").decode("utf-8") != text,
            "image name is a path": os.path.basename(row.image) != row.image,
        }
        row.problem = row.problem or next((problem for problem, is_met in checks.items() if is_met), "")
        (rows.refused if row.problem else rows.good).append(row)
    return rows


def find_images(folder: Path, given: str | None, rows: Rows) -> Path:
    """Return the folder given, or the usual one that holds an image of the annotation."""
    if given:
        for path in (folder / given, Path(os.path.abspath(given))):
            if path.is_dir():
                return path
        raise HandleError(f"image folder {given} does not exist", status=2)
    there = [folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()]
    if not there:
        raise HandleError(f"no images in {folder}: looked for {', '.join(IMAGE_FOLDERS)}; or pass --images FOLDER")
    return next((path for path in there if any((path / row.image).is_file() for row in rows.good)), there[0])


def refuse_missing(rows: Rows, images: Path) -> int:
    """Refuse the rows whose image is not there and return the number of missing images."""
    with os.scandir(images) as entries:
        names = {entry.name for entry in entries if entry.is_file()}
    missing = [row for row in rows.good if row.image not in names]
    rows.good = [row for row in rows.good if row.image in names]
    rows.refused += [replace(row, problem="image is missing") for row in missing]
    return count_images(missing)


def split_rows(rows: list[Row], options: argparse.Namespace) -> tuple[dict[str, list[Row]], str]:
    """Return the parts by name and a sentence that says what the split is."""
    if options.split == "karpathy":
        parts = {name: [row for row in rows if row.split == name] for name in LISTS}
        if sum(map(len, parts.values())) < len(rows) or not (parts["train"] and parts["test"]):
            raise HandleError("not every row names a part of the Karpathy split; see --annotation", status=2)
        return parts, "Karpathy, as the annotation has it"
    count = TEST_ROWS if options.test_rows is None else options.test_rows
    if options.test_rows is None and len(rows) < 2 * count:
        raise HandleError(f"{len(rows)} rows are too few for the usual {count} test rows; choose with --test_rows N")
    if not 0 < count < len(rows):
        raise HandleError(f"{count} test rows cannot be taken from {len(rows)}; pass another --test_rows", status=2)
    parts = {"train": rows[:-count], "test": rows[-count:]}
    shared = {row.image for row in parts["train"]} & {row.image for row in parts["test"]}
    about = f"the last {count} rows = {count_images(parts['test'])} images are the test set; not the Karpathy split"
    return parts, about + f"; {len(shared)} images have rows in both" * bool(shared)


def list_refused(target: Path, rows: Rows) -> None:
    """Name every refused row in a file and say so; take away the list of an earlier run."""
    if not rows.refused:
        target.unlink(missing_ok=True)
        return
    listed = ((row.source, row.line, *map(as_text, (row.image, row.problem, row.caption))) for row in rows.refused)
    write_csv(target, [("file", "line", "image", "reason", "text"), *listed])
    reasons = Counter(row.problem for row in rows.refused)
    print(f"refused rows stand in {target}: {', '.join(f'{count} x {why}' for why, count in reasons.items())}")


def as_text(cell: str) -> str:
    """Put an apostrophe before what a spreadsheet would run as a formula (CWE-1236)."""
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell


def remove_stale(target: Path) -> None:
    """Take away a part that an earlier split wrote and this one does not have; a file of another origin stays."""
    if not target.is_file():
        return
    with open(target, "rb") as file:
        is_own = file.readline() == f"{','.join(HEADER)}\n".encode()
    if is_own and not target.is_symlink():
        target.unlink()
        print(f"removed   {target}, which an earlier split had written")
    else:
        print(f"note: {target} does not belong to this split and was not written by this tool; it stays as it is")


def count_images(rows: list[Row]) -> int:
    """Count the different images of some rows."""
    return len({row.image for row in rows})


def write_csv(target: Path, rows: list[tuple[object, ...]]) -> None:
    """Write a CSV file (RFC 4180 quoting) whole or not at all, and never through a link that lies under its names."""
    draft = target.with_name(f".tmp-{target.name}-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    try:
        with open(draft, "x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
