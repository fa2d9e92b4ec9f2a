"""Pack a list of captions and a folder of images as tar shards for the webdataset readers.

The list is a .json (a list of objects, or an object of equally long lists), a .jsonl, or a .csv or .tsv with a header.
A list of captions of one image may be spread over several rows; captions inside of lists are named by a path such as
``regions.phrase``. Each image gives its own bytes, KEY.txt and KEY.json with ``path``, ``caption``, ``captions`` and,
with --labels, ``labels``. Samples stand by the names of their images.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from open_clip.checked_json import JsonObject, read_json, read_json_lines
from open_clip.errors import ConfigError, DataError, cut_list, printable, suggest_nearest
from packing import CaptionedImage, add_label_flags, describe_settings, make_sampler, run_packing
from training.data.decode import find_images
from training.data.encoding import open_text, read_lines
from training.data.records import RecordReader
from training.data.shards.pack import LeftOut, Packed, Packing

_IMAGE_FIELDS = (
    "image",
    "image_path",
    "filepath",
    "file_name",
    "filename",
    "path",
    "image_id",
    "image_url",
    "url",
    "id",
)
_CAPTION_FIELDS = ("caption", "captions", "text", "title", "cap", "regions.phrase")
_MOST_BYTES = 1 << 32


def read_rows(path: Path, separator: str | None = None) -> Iterator[tuple[int, JsonObject | None]]:
    """Read the rows of a list of captions with their numbers from 1; None for one that is no row.

    Raises:
        DataError: the list cannot be read, or is of no form that is known.
    """
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv", ".txt"):
        yield from _read_table(path, separator or ("," if kind == ".csv" else "\t"))
        return
    try:
        if kind in (".jsonl", ".ndjson"):
            yield from enumerate((row for _, row in read_json_lines(path)), 1)
        elif kind == ".json":
            yield from enumerate(_rows_of(path, read_json(path, _MOST_BYTES)), 1)
        else:
            raise DataError(
                f"{printable(path)} ends in none of .json, .jsonl, .csv and .tsv. Rename it by what it holds."
            )
    except OSError as error:
        raise DataError(f"{printable(path)} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise DataError(f"{printable(path)} is no JSON: {printable(error, 200)}.") from None


def _rows_of(path: Path, content: object) -> Iterator[JsonObject | None]:
    if isinstance(content, dict):
        columns = {name: values for name, values in content.items() if isinstance(values, list)}
        if "annotations" in columns:
            raise DataError(f"{printable(path)} is of COCO's form: pack it with tools/mscoco_to_wds.py.")
        if not columns or len({len(values) for values in columns.values()}) > 1:
            raise DataError(f"{printable(path)} is neither a list of objects nor an object of equally long lists.")
        content = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if not isinstance(content, list):
        raise DataError(f"{printable(path)} is no list of objects.")
    yield from (row if isinstance(row, dict) else None for row in content)


def _read_table(path: Path, separator: str) -> Iterator[tuple[int, JsonObject | None]]:
    with open_text(str(path)) as handle:
        records = RecordReader(read_lines(handle), separator)
        header = [name.strip() for name in next(records).fields]
        records.is_row = lambda fields: len(fields) == len(header)
        for record in records:
            is_sound = record.problem is None and len(record.fields) == len(header)
            yield record.row, dict(zip(header, record.fields, strict=True)) if is_sound else None


def values_of(value: object, path: Sequence[str]) -> list[str]:
    """Return the texts that a path of names leads to in a row; through lists, all of them."""
    if isinstance(value, list):
        return [text for one in value for text in values_of(one, path)]
    if path:
        return values_of(value.get(path[0]), path[1:]) if isinstance(value, dict) else []
    is_text = isinstance(value, str | int) and not isinstance(value, bool)
    return [text] if is_text and (text := str(value).strip()) else []


class ImageNames:
    """The images of a folder by the ways a list may name them: path, file name, or name without its suffix."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[str, set[str]] = {}
        for found in find_images(str(folder)):
            path = Path(found).relative_to(folder)
            for name in {path.as_posix(), path.with_suffix("").as_posix(), path.name, path.stem}:
                self._paths.setdefault(name, set()).add(path.as_posix())

    def find(self, name: str) -> str:
        """Return the path of an image in the folder, from its name, its path or its address.

        Raises:
            DataError: there is none, or several are called so.
        """
        address = urlsplit(name).path if "://" in name else name
        for way in (address.removeprefix("./"), Path(address).name):
            exact = self._paths.get(way, set())
            if len(exact) > 1 and way in exact:
                return way
            if len(exact) > 1:
                raise DataError(f"{len(exact)} images are called so: {cut_list(sorted(exact), 3)}")
            if exact:
                return next(iter(exact))
        raise DataError("image not found")


def collect(
    rows: Iterator[tuple[int, JsonObject | None]], images: Path, image_field: str | None, caption_field: str | None
) -> tuple[list[CaptionedImage], list[LeftOut]]:
    """Put the captions of each image together.

    Returns:
        The images by their paths, and rows that name none.

    Raises:
        ConfigError: the rows have no field of that name, or none that is known.
    """
    names, left_out = ImageNames(images), []
    said: dict[str, list[str]] = {}
    fields: tuple[str, str] | None = None
    for number, row in rows:
        if row is None:
            left_out.append(LeftOut(f"row {number}", "it cannot be read as a row"))
            continue
        fields = fields or (
            choose_field("--image-field", image_field, _IMAGE_FIELDS, row),
            choose_field("--caption-field", caption_field, _CAPTION_FIELDS, row),
        )
        named, captions = (values_of(row, field.split(".")) for field in fields)
        try:
            if not named:
                raise DataError(f"no {fields[0]}")
            path = names.find(named[0])
        except DataError as error:
            left_out.append(LeftOut(f"row {number} {printable(named[0], 200) if named else ''}".strip(), str(error)))
            continue
        said.setdefault(path, []).extend(captions)
    return list(_by_key(images, said)), left_out


def _by_key(folder: Path, said: dict[str, list[str]]) -> Iterator[CaptionedImage]:
    """Give the images by their keys: a key ends at its first dot, and no two images have the same."""
    taken: set[str] = set()
    for path in sorted(said):
        stem = Path(path).with_suffix("").as_posix().replace(".", "_")
        key, times = stem, 1
        while key in taken:
            times += 1
            key = f"{stem}-{times}"
        taken.add(key)
        captions = tuple(dict.fromkeys(said[path]))
        record = {"key": key, "path": path, "caption": " ".join(captions), "captions": captions}
        yield CaptionedImage(key, folder / path, captions, record)


def choose_field(flag: str, given: str | None, known: Sequence[str], row: JsonObject) -> str:
    """Return the field that a flag names, or the first known one that the first row has."""
    candidates = known if given is None else (given,)
    for field in candidates:
        if field.partition(".")[0] in row:
            return field
    there = f"The first row has {cut_list(row)}."
    if given is not None:
        raise ConfigError(f"{flag} {printable(given, 100)}: no such field. {there}{suggest_nearest(given, row)}")
    raise ConfigError(f"{flag} is needed: no field is called {' or '.join(known)}. {there}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Pack captions and images as tar shards.")
    parser.add_argument("--captions", required=True, type=Path, help="list of captions: .json, .jsonl, .csv or .tsv")
    parser.add_argument("--images", required=True, type=Path, help="folder of the images, sub-folders included")
    parser.add_argument("--out", required=True, type=Path, help="folder for the shards")
    parser.add_argument("--per-shard", required=True, type=int, help="samples of each shard but the last")
    parser.add_argument("--image-field", help="field that names the image (default: the first usual one)")
    parser.add_argument(
        "--caption-field", help="field of captions, such as regions.phrase (default: the first usual one)"
    )
    parser.add_argument("--csv-separator", help="text between two columns (default: a comma in .csv, else a tab)")
    add_label_flags(parser)
    args = parser.parse_args(arguments)
    if args.per_shard < 1:
        parser.error("--per-shard must be at least 1")

    def pack() -> Packed:
        sampler = make_sampler(args)
        if not args.images.is_dir():
            raise DataError(f"--images {printable(args.images)} is no folder.")
        rows = read_rows(args.captions, args.csv_separator)
        images, left_out = collect(rows, args.images, args.image_field, args.caption_field)
        return Packing(
            rows=images,
            make=sampler.make,
            name=lambda image: str(image.record["path"]),
            settings=describe_settings(args, images),
            per_shard=args.per_shard,
            refused=left_out,
        ).run(args.out)

    return run_packing(pack, args.out)


if __name__ == "__main__":
    sys.exit(main())
