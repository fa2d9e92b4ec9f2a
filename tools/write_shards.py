"""Write image-caption pairs as tar shards for pretraining, with their counts in ``sizes.json``.

Images go in as they are, byte for byte; rows that cannot be used are left out and named, all of them in
``manifest.json``. The same command goes on after a kill, and equal rows give equal bytes.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from open_clip.errors import DataError, OpenClipError, printable
from training.data import PairTable, SourceRequest, open_source, read_text
from training.data.shards.pack import LeftOut, Packed, Packing
from training.data.shards.write import Sample, read_image_file
from training.params.data import DataParams, ShardParams


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


def write_shards(table: PairTable, out: Path, samples_per_shard: int, keep: Sequence[str] = ()) -> Packed:
    """Write the rows of a table in their order; a killed run goes on where it stopped.

    Args:
        table: the pairs.
        out: folder of the shards; made when it is not there, refused when it holds shards of other data.
        samples_per_shard: samples of each shard but the last.
        keep: columns that go into each sample's .json under their names.

    Raises:
        DataError: the folder holds other shards already, or no row can be used.
    """

    def make(row: int, number: int) -> Sample:
        suffix, image = read_image_file(table.image_path(row))
        key = f"{number // samples_per_shard:05d}{number % samples_per_shard:05d}"
        caption = read_text(table, row)
        record = {**_keep(table, row, keep), "caption": caption, "key": key}
        return Sample(key, {suffix: image, "txt": caption.encode(), "json": json.dumps(record).encode()})

    return Packing(
        rows=range(len(table)),
        make=make,
        name=lambda row: f"{table.source}:{table.row(row)} {table.image_path(row)}",
        settings={"contents": table.contents, "keep": list(keep)},
        per_shard=samples_per_shard,
        refused=[LeftOut(f"{fault.source}:{fault.row} {fault.path}", fault.reason) for fault in table.faults],
    ).run(out)


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
        packed = write_shards(read_pairs(args), Path(args.out), args.samples_per_shard, args.keep)
    except OpenClipError as error:
        print(f"[Error] {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"[Error] {printable(error.filename or args.out)}: {error.strerror}", file=sys.stderr)
        return DataError.exit_status
    for line in packed.describe(args.out):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
