"""Pack COCO's images with their captions, as ``ROOT/coco_valid`` or ``ROOT/coco_train``.

Each image gives KEY.jpg, its bytes unchanged; KEY.txt, its captions joined by blanks; and KEY.json with ``path``,
``cap`` and ``split``. They go into folders 00000, 00001, ... to be made tars of, or with --direct into tars.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from open_clip.checked_json import JsonObject, read_json
from open_clip.errors import DataError, printable
from packing import CaptionedImage, add_label_flags, describe_settings, make_sampler, run_packing
from training.data.shards.pack import LeftOut, Packed, Packing
from training.data.shards.write import write_folder, write_shard

_SPLITS = {"val2017": "coco_valid", "train2017": "coco_train"}
_MOST_BYTES = 1 << 31


def read_coco(root: Path, split: str) -> tuple[list[CaptionedImage], list[LeftOut]]:
    """Read the images of a split with their captions, by the number of the image.

    Returns:
        The images, those without captions too, and captions that belong to no image.

    Raises:
        DataError: the file of captions is not there, or not of COCO's form.
    """
    path = root / "annotations" / f"captions_{split}.json"
    try:
        content = read_json(path, _MOST_BYTES)
        names = {_whole(image, "id"): _text(image, "file_name") for image in content["images"]}
        captions: dict[int, list[str]] = {number: [] for number in names}
        homeless: list[LeftOut] = []
        for annotation in content["annotations"]:
            number, caption = _whole(annotation, "image_id"), _text(annotation, "caption").strip()
            if number not in captions:
                homeless.append(LeftOut(f"annotation {annotation.get('id')}", f"no image has its image_id {number}"))
            elif caption:
                captions[number].append(caption)
    except OSError as error:
        raise DataError(
            f"{printable(path)} cannot be read: {error.strerror}. ROOT holds annotations/ and {split}/."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{printable(path)} is not of the form of COCO's captions: {printable(error, 200)}.") from None
    return list(_images(root / split, names, captions)), homeless


def _images(folder: Path, names: dict[int, str], captions: dict[int, list[str]]) -> Iterable[CaptionedImage]:
    for number in sorted(names):
        name, said = Path(names[number]).name, tuple(captions[number])
        record = {"path": name, "cap": " ".join(said), "split": folder.name}
        yield CaptionedImage(name.partition(".")[0], folder / name, said, record)


def _whole(entry: JsonObject, name: str) -> int:
    value = entry[name]
    if type(value) is not int:
        raise ValueError(f"an entry's {name} is no whole number")
    return value


def _text(entry: JsonObject, name: str) -> str:
    value = entry[name]
    if not isinstance(value, str):
        raise ValueError(f"an entry's {name} is no text")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Pack COCO's images with their captions.")
    parser.add_argument("root", nargs="?", default="coco", help="folder of annotations/ and the split's images (coco)")
    parser.add_argument("--split", default="val2017", choices=_SPLITS, help="part of COCO (default: val2017)")
    parser.add_argument("--out", help="folder for the result (default: ROOT/coco_valid or ROOT/coco_train)")
    parser.add_argument("--per-shard", type=int, default=3000, help="images of each shard but the last (default: 3000)")
    parser.add_argument("--direct", "--tar", action="store_true", help="write tars in place of folders")
    add_label_flags(parser)
    args = parser.parse_args(arguments)
    if args.per_shard < 1:
        parser.error("--per-shard must be at least 1")
    root = Path(args.root)
    out = Path(args.out) if args.out else root / _SPLITS[args.split]

    def pack() -> Packed:
        sampler = make_sampler(args)
        images, homeless = read_coco(root, args.split)
        return Packing(
            rows=images,
            make=sampler.make,
            name=lambda image: image.path.name,
            settings={"split": args.split, "tars": args.direct, **describe_settings(args, images)},
            per_shard=args.per_shard,
            refused=homeless,
            write=write_shard if args.direct else write_folder,
            ending=".tar" if args.direct else "",
        ).run(out)

    status = run_packing(pack, out)
    if status == 0 and not args.direct:
        # Without the flag the members of a sample may stand anywhere in the tar.
        print("make tars of the folders, each with: tar --sort=name -cf 00000.tar 00000 (--direct writes tars at once)")
    return status


if __name__ == "__main__":
    sys.exit(main())
