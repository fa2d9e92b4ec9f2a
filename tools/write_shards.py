"""Write image-caption pairs as tar shards for pretraining, with their counts in ``sizes.json``.

Images go in as they are, byte for byte; rows that cannot be used are left out and named.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from open_clip.errors import DataError, MissingDependency, OpenClipError, printable
from open_clip.extras import install_advice
from open_clip.files import write_whole
from training.data import PairTable, SourceRequest, open_source, read_image, read_text
from training.params.data import DataParams, ShardParams

_KINDS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_MAX_SHOWN = 5


def read_pairs(args: argparse.Namespace) -> PairTable:
    """Read the pairs that the command line names, with the columns to keep beside them.

    Raises:
        ConfigError: a column is not there.
        DataError: there are none, or they are no table and no folder.
    """
    data = DataParams(
        csv_separator=args.csv_separator, csv_img_key=args.csv_img_key, csv_caption_key=args.csv_caption_key
    )
    source = open_source(
        SourceRequest(args.data, args.split, data, ShardParams(), columns=("image", "text", *args.keep))
    )
    if not isinstance(source, PairTable):
        raise DataError(f"{printable(args.data)} is no table and no folder of images.")
    return source


def write_shards(
    table: PairTable, out: Path, samples_per_shard: int, keep: Sequence[str] = ()
) -> tuple[dict[str, int], list[str]]:
    """Write the rows of a table in their order.

    Args:
        table: the pairs.
        out: folder of the shards; made when it is not there, refused when it holds shards.
        samples_per_shard: samples of each shard but the last.
        keep: columns that go into each sample's .json under their names.

    Returns:
        Samples of each shard by file name, and what was left out.

    Raises:
        DataError: the folder holds shards already, or no row can be used.
        MissingDependency: webdataset is not installed.
    """
    try:
        from webdataset import ShardWriter
    except ImportError as error:
        raise MissingDependency(f"writing shards needs webdataset: {install_advice('shards')}.") from error
    out.mkdir(parents=True, exist_ok=True)
    if any(out.glob("*.tar")):
        raise DataError(f"{out} holds shards already. Choose an empty folder with --out.")
    sizes: dict[str, int] = {}
    left_out = [str(fault) for fault in table.faults]
    with ShardWriter(str(out / "%05d.tar"), maxcount=samples_per_shard, verbose=0) as writer:
        for row in range(len(table)):
            try:
                kind = _KINDS.get(read_image(table, row).open().format or "")
                if kind is None:
                    raise DataError("not a JPEG, PNG or WebP image")
                image = Path(table.image_path(row)).read_bytes()
                kept = _keep(table, row, keep)
            except DataError as error:
                left_out.append(str(table.fault(row, str(error))))
                continue
            caption = read_text(table, row)
            number = writer.total
            key = f"{number // samples_per_shard:05d}{number % samples_per_shard:05d}"
            record = {**kept, "caption": caption, "key": key}
            writer.write({"__key__": key, kind: image, "txt": caption, "json": record})
            name = Path(writer.fname).name
            sizes[name] = sizes.get(name, 0) + 1
    if not sizes:
        first = left_out[0] if left_out else "it is empty"
        raise DataError(f"no row of {table.source} can be used; the first: {first}")
    write_whole(out / "sizes.json", json.dumps(sizes, indent=1) + "\n")
    return sizes, left_out


def _keep(table: PairTable, row: int, names: Sequence[str]) -> dict[str, object]:
    """Read the columns of a row that go into its .json; DataError for what json cannot hold, such as arrays."""
    kept = {name: table.read(name, row) for name in names}
    try:
        json.dumps(kept)
    except TypeError as error:
        raise DataError(f"a .json cannot hold {', '.join(names)}: {error}") from None
    return kept


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write image-caption pairs as tar shards.")
    parser.add_argument("--data", required=True, help="table (.csv, .tsv) or folder of pairs, as --train-data takes it")
    parser.add_argument("--out", required=True, help="folder for the shards")
    parser.add_argument("--samples-per-shard", type=int, default=10_000, help="samples of a shard (default: 10000)")
    splits = ("train", "val", "test")
    parser.add_argument("--split", default="train", choices=splits, help="part of a Flickr30k-form folder")
    parser.add_argument("--keep", nargs="*", default=[], metavar="NAME", help="further columns that go into the .json")
    parser.add_argument("--csv-separator", default="\t", help="text between two columns (default: tab)")
    parser.add_argument("--csv-img-key", default="filepath", help="column of image paths")
    parser.add_argument("--csv-caption-key", default="title", help="column of captions")
    args = parser.parse_args(arguments)
    if args.samples_per_shard < 1:
        parser.error("--samples-per-shard must be at least 1")
    try:
        sizes, left_out = write_shards(read_pairs(args), Path(args.out), args.samples_per_shard, args.keep)
    except OpenClipError as error:
        print(f"[Error] {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"[Error] {printable(error.filename or args.out)}: {error.strerror}", file=sys.stderr)
        return DataError.exit_status
    for line in left_out[:_MAX_SHOWN]:
        print(f"left out: {line}")
    if len(left_out) > _MAX_SHOWN:
        print(f"left out: {len(left_out) - _MAX_SHOWN} more")
    shards = f"{printable(args.out)}/{{00000..{len(sizes) - 1:05d}}}.tar"
    print(f"{sum(sizes.values())} samples, {len(sizes)} shards: {shards}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
