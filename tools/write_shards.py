"""Write image-caption pairs as tar shards for pretraining, with their counts in ``sizes.json``.

Images go in as they are, byte for byte; rows that cannot be used are left out and named.
"""

import argparse
import json
import sys
from pathlib import Path

from open_clip.errors import DataError, MissingDependency, OpenClipError, printable
from open_clip.extras import install_advice
from open_clip.files import write_whole
from training.data import PairTable, open_image, read_csv_pairs, read_folder_pairs, read_text

_KINDS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_MAX_SHOWN = 5


def read_pairs(args: argparse.Namespace) -> PairTable:
    """Read the pairs that the command line names.

    Raises:
        DataError: there are none, or the table cannot be read.
    """
    if Path(args.data).is_dir():
        return read_folder_pairs(args.data, args.split)
    return read_csv_pairs(args.data, args.csv_separator, args.csv_img_key, args.csv_caption_key)


def write_shards(table: PairTable, out: Path, samples_per_shard: int) -> tuple[dict[str, int], list[str]]:
    """Write the rows of a table in their order.

    Args:
        table: the pairs.
        out: folder of the shards; made when it is not there, refused when it holds shards.
        samples_per_shard: samples of each shard but the last.

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
                kind = _KINDS.get(open_image(table.image_path(row)).format or "")
                if kind is None:
                    raise DataError("not a JPEG, PNG or WebP image")
                image = Path(table.image_path(row)).read_bytes()
            except DataError as error:
                left_out.append(str(table.fault(row, str(error))))
                continue
            caption = read_text(table, row)
            number = writer.total
            key = f"{number // samples_per_shard:05d}{number % samples_per_shard:05d}"
            writer.write({"__key__": key, kind: image, "txt": caption, "json": {"caption": caption, "key": key}})
            name = Path(writer.fname).name
            sizes[name] = sizes.get(name, 0) + 1
    if not sizes:
        first = left_out[0] if left_out else "it is empty"
        raise DataError(f"no row of {table.source} can be used; the first: {first}")
    write_whole(out / "sizes.json", json.dumps(sizes, indent=1) + "\n")
    return sizes, left_out


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write image-caption pairs as tar shards.")
    parser.add_argument("--data", required=True, help="table (.csv, .tsv) or folder of pairs, as --train-data takes it")
    parser.add_argument("--out", required=True, help="folder for the shards")
    parser.add_argument("--samples-per-shard", type=int, default=10_000, help="samples of a shard (default: 10000)")
    parser.add_argument("--split", default="train", help="part of a Flickr30k-form folder: train or val")
    parser.add_argument("--csv-separator", default="\t", help="text between two columns (default: tab)")
    parser.add_argument("--csv-img-key", default="filepath", help="column of image paths")
    parser.add_argument("--csv-caption-key", default="title", help="column of captions")
    args = parser.parse_args(arguments)
    if args.samples_per_shard < 1:
        parser.error("--samples-per-shard must be at least 1")
    try:
        sizes, left_out = write_shards(read_pairs(args), Path(args.out), args.samples_per_shard)
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
