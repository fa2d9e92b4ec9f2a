"""What the commands that pack images with their captions share: one image with all its captions as a sample."""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from open_clip.errors import DataError, OpenClipError, printable
from open_clip.families.nxtp.labels import EXTRACTORS, RULES, LabelExtractor, join_labels, make_extractor
from training.data.shards.pack import Packed
from training.data.shards.write import Sample, read_image_file


@dataclass(frozen=True)
class CaptionedImage:
    """One image and what is said of it.

    Attributes:
        key: name of its sample.
        path: its file.
        captions: its captions, none of them empty.
        record: what its .json holds beside the labels.
    """

    key: str
    path: Path
    captions: tuple[str, ...]
    record: Mapping[str, object]

    @property
    def caption(self) -> str:
        """All captions as one text."""
        return " ".join(self.captions)


class Sampler:
    """Makes samples of images with captions.

    Args:
        extractor: finds the labels for the field ``labels`` of the .json; without one there is no such field.
        min_labels: images with fewer labels are left out.
    """

    def __init__(self, extractor: LabelExtractor | None = None, min_labels: int = 1) -> None:
        self._extractor = extractor
        self._min_labels = min_labels

    def make(self, image: CaptionedImage, number: int) -> Sample:
        """Make a sample; DataError says why there is none."""
        if not image.captions:
            raise DataError("image without a caption")
        record = dict(image.record)
        if self._extractor is not None:
            labels = self._extractor.extract(image.captions)
            if len(labels) < self._min_labels:
                raise DataError(f"fewer labels in its captions than {self._min_labels}")
            record["labels"] = join_labels(labels)
        suffix, content = read_image_file(str(image.path))
        return Sample(image.key, {suffix: content, "txt": image.caption.encode(), "json": json.dumps(record).encode()})


def add_label_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("labels")
    names = ", ".join(EXTRACTORS)
    group.add_argument("--labels", metavar="EXTRACTOR", help=f"write labels of the captions into the .json, by {names}")
    group.add_argument("--label-rule", "--label_rule", default="fixed", choices=RULES, help="which words count")
    group.add_argument("--keep-numbers", action="store_true", help="keep labels that hold a digit")
    group.add_argument("--min-labels", type=int, default=1, help="leave out images with fewer labels (default: 1)")


def make_sampler(args: argparse.Namespace) -> Sampler:
    if args.labels is None:
        return Sampler()
    return Sampler(make_extractor(args.labels, args.label_rule, args.keep_numbers), args.min_labels)


def describe_settings(args: argparse.Namespace, images: Sequence[CaptionedImage]) -> dict[str, object]:
    """Say what the samples follow from: the flags of labels, and a digest of all images and captions."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(json.dumps([image.key, image.path.name, image.captions, image.record]).encode())
    labels = {"extractor": args.labels, "rule": args.label_rule, "numbers": args.keep_numbers, "min": args.min_labels}
    return {"rows": digest.hexdigest(), "labels": labels if args.labels is not None else None}


def run_packing(pack: Callable[[], Packed], out: Path) -> int:
    """Run a packing, say what became of it, and return the exit status."""
    try:
        packed = pack()
    except OpenClipError as error:
        print(f"[Error] {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"[Error] {printable(error.filename or out)}: {error.strerror or error}", file=sys.stderr)
        return DataError.exit_status
    for line in packed.describe(out):
        print(line)
    return 0
