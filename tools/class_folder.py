"""Sort the images of a table into one folder a class by words of their captions, as ``--task classify`` reads them."""

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from open_clip.errors import DataError, OpenClipError, printable
from training.data import PairTable, read_csv_pairs, read_text


def sort_images(table: PairTable, classes: Sequence[str], out: Path) -> dict[str, int]:
    """Copy each image whose captions name exactly one class into the folder of that class.

    Args:
        table: images with captions; those of an image are looked at together.
        classes: words or phrases, matched whole and in any case; each is the name of its folder.
        out: folder of the class folders; made when it is not there, refused when it holds anything.

    Returns:
        Images of each class.

    Raises:
        DataError: the folder is not empty, or a class has no image.
    """
    if out.is_dir() and any(out.iterdir()):
        raise DataError(f"{printable(out)} is not empty. Choose another folder with --out.")
    patterns = {name: re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE) for name in classes}
    named: dict[int, set[str]] = {}
    first_row: dict[int, int] = {}
    for row in range(len(table)):
        image, caption = table.image_id(row), read_text(table, row)
        first_row.setdefault(image, row)
        named.setdefault(image, set()).update(name for name, pattern in patterns.items() if pattern.search(caption))
    images = {name: [image for image, names in named.items() if names == {name}] for name in classes}
    missing = [name for name, found in images.items() if not found]
    if missing:
        raise DataError(f"no caption of {printable(table.source)} names only {', '.join(map(repr, missing))}.")
    for name, found in images.items():
        (out / name).mkdir(parents=True)
        for number, image in enumerate(found, 1):
            source = Path(table.image_path(first_row[image]))
            # Images of one name in several folders stay apart.
            shutil.copyfile(source, out / name / f"{number:06d}-{source.name}")
    return {name: len(found) for name, found in images.items()}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Sort images into one folder a class by words of their captions.")
    parser.add_argument("classes", nargs="+", help="words or phrases, one a class, such as 'flat drawing'")
    parser.add_argument("--data", required=True, help="table of images and captions (.csv, .tsv)")
    parser.add_argument("--out", required=True, help="folder for the class folders")
    parser.add_argument("--csv-separator", default="\t", help="text between two columns (default: tab)")
    parser.add_argument("--csv-img-key", default="filepath", help="column of image paths")
    parser.add_argument("--csv-caption-key", default="title", help="column of captions")
    args = parser.parse_args(arguments)
    wrong = [name for name in args.classes if name.strip(". ") != name or "/" in name or not name]
    if wrong:
        parser.error(f"{wrong[0]!r} cannot be the name of a folder")
    try:
        table = read_csv_pairs(args.data, args.csv_separator, args.csv_img_key, args.csv_caption_key)
        counts = sort_images(table, list(dict.fromkeys(args.classes)), Path(args.out))
    except OpenClipError as error:
        print(f"[Error] {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"[Error] {printable(error.filename or args.out)}: {error.strerror}", file=sys.stderr)
        return DataError.exit_status
    for name, count in counts.items():
        print(f"{count:6d}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
