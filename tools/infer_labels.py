"""Name what is in images, with a model of the family nxtp.

    python tools/infer_labels.py --checkpoint logs/RUN/checkpoints/epoch_3.pt --images photos/ --topk 10
    find . -name '*.jpg' | python tools/infer_labels.py --checkpoint model-folder --images - --json

The checkpoint says which model it holds and how images are prepared. An image that cannot be read is named, and the
status at the end is 3.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import open_clip
from open_clip.checkpoint import CONFIG_ENTRY, read_text_entries
from open_clip.constants import HF_CONFIG_NAME
from open_clip.errors import CheckpointError, ConfigError, DataError, OpenClipError, printable
from open_clip.factory.description import read_description
from open_clip.families.nxtp.attention_images import read_attention_maps, write_attention_maps
from open_clip.families.nxtp.decoding import STRATEGIES, DecodingOptions, predict_labels
from open_clip.families.nxtp.model import NextLabelModel
from open_clip.families.nxtp.ranking import RANKINGS, Label
from open_clip.families.nxtp.tokenizer import LabelTokenizer
from training.data.decode import ImageError, ImageFile, find_images
from training.device import select_device


@dataclass(frozen=True)
class Namer:
    """A model with what it needs to name images: its tokenizer, its transform, where it stands."""

    model: NextLabelModel
    tokenizer: LabelTokenizer
    transform: Callable[[object], Tensor]
    device: torch.device


def open_namer(checkpoint: Path, tokenizer: str | None, device: torch.device) -> Namer:
    """Make the model that a checkpoint or a model folder holds.

    Args:
        checkpoint: A file of a run, or a folder that ``python -m training.export --model-folder`` wrote.
        tokenizer: The file of the decoder's tokenizer; None for the one that the model's configuration names, beside
            the checkpoint.
        device: Where to put it.

    Raises:
        CheckpointError: the checkpoint or the tokenizer's file is missing, damaged, or says not what model it holds.
        ConfigError: it is a model that writes no labels, or no tokenizer is named.
    """
    with ExitStack() as opened:
        name, weights = f"local-dir:{checkpoint}", None
        if not checkpoint.is_dir():
            folder = opened.enter_context(tempfile.TemporaryDirectory())
            (Path(folder) / HF_CONFIG_NAME).write_text(json.dumps(_read_config(checkpoint)), encoding="utf-8")
            name, weights = f"local-dir:{folder}", str(checkpoint)
        model, _, transform = open_clip.create_model_and_transforms(name, weights, device=device)
        if not isinstance(model, NextLabelModel):
            raise ConfigError(
                f"{printable(checkpoint)} holds a model that writes no labels; name one of the family nxtp."
            )
        beside = checkpoint if checkpoint.is_dir() else checkpoint.parent
        named = model.label_cfg.tokenizer
        path = tokenizer or (beside / named if named else None)
        if path is None:
            raise ConfigError(
                f"{printable(checkpoint)} does not say where its tokenizer is: give the file that it was trained with, "
                "--label-tokenizer tokenizer.model."
            )
        made = open_clip.get_tokenizer(name, path=path)
    assert isinstance(made, LabelTokenizer)
    return Namer(model.eval(), made, transform, device)


def _read_config(checkpoint: Path) -> dict[str, object]:
    told = read_text_entries(checkpoint).get(CONFIG_ENTRY)
    if told is None:
        raise CheckpointError(
            f"{printable(checkpoint)} does not say which model it holds. Name a checkpoint that this trainer wrote, or "
            "a model folder."
        )
    described = read_description(told, str(checkpoint))
    return {"model_cfg": described.model_cfg, "preprocess_cfg": described.preprocess_cfg}


def list_images(source: str) -> Iterable[str]:
    """List image files: the one named, those in a folder, or for ``-`` the lines of the standard input, as they come.

    Raises:
        DataError: the folder has none.
    """
    if source == "-":
        return (line.rstrip("\r\n") for line in sys.stdin if line.strip())
    if not Path(source).is_dir():
        return [source]
    found = find_images(source)
    if not found:
        raise DataError(f"{printable(source)}: no image is in this folder or below it. Name another with --images.")
    return found


def read_batches(
    paths: Iterable[str], transform: Callable[[object], Tensor], batch_size: int, broken: list[str]
) -> Iterator[tuple[list[str], Tensor]]:
    """Open images and put them together, [B, 3, H, W]; those that cannot be read are named and added to ``broken``."""
    names: list[str] = []
    images: list[Tensor] = []
    for path in paths:
        try:
            images.append(transform(ImageFile(path).open()))
        except ImageError as error:
            print(f"[Skipped] {printable(path)}: {error}", file=sys.stderr)
            broken.append(path)
            continue
        names.append(path)
        if len(names) == batch_size:
            yield names, torch.stack(images)
            names, images = [], []
    if names:
        yield names, torch.stack(images)


def show(path: str, labels: Sequence[Label], explain: bool) -> str:
    """Write an image's labels for a person."""
    lines = [f"image: {printable(path)}", f"top-{len(labels)} predictions:"]
    for label in labels:
        lines.append(
            f"| prob: {label.prob:.5f} - {printable(label.text)}{'' if label.is_finished else ' (not finished)'}"
        )
        if explain:
            lines.append("|   " + "  ".join(f"{token!r} {prob:.5f}" for token, prob in label.token_probs))
    return "\n".join(lines)


def show_json(path: str, labels: Sequence[Label], explain: bool) -> str:
    """Write an image's labels as one line of JSON."""
    listed = []
    for label in labels:
        one: dict[str, object] = {"label": label.text, "prob": label.prob, "is_finished": label.is_finished}
        if explain:
            one |= {"score": label.score, "tokens": [list(token) for token in label.token_probs]}
        listed.append(one)
    return json.dumps({"image": path, "labels": listed}, ensure_ascii=False)


def _save_maps(namer: Namer, names: Sequence[str], images: Tensor, args: argparse.Namespace, before: int) -> None:
    folder = Path(args.save_attention_maps)
    folder.mkdir(parents=True, exist_ok=True)
    # Images of one name in several folders stay apart; a path of another system has other separators.
    stems = [re.sub(r"[^\w.-]", "_", Path(name).stem) for name in names]
    folders = [f"{number:06d}-{stem}"[:100] for number, stem in enumerate(stems, before)]
    write_attention_maps(read_attention_maps(namer.model, images, namer.tokenizer, args.prompt), folder, folders)


def infer(namer: Namer, args: argparse.Namespace) -> int:
    """Name all images of a command line; returns the exit status."""
    options = DecodingOptions(extra_rows=args.extra_rows)
    write, count, seconds = show_json if args.json else show, 0, 0.0
    broken: list[str] = []
    for names, images in read_batches(list_images(args.images), namer.transform, args.batch_size, broken):
        started = time.perf_counter()
        images = images.to(namer.device)
        found = predict_labels(
            namer.model,
            images,
            namer.tokenizer,
            args.topk,
            args.strategy,
            args.ranking,
            prompt=args.prompt,
            options=options,
        )
        seconds += time.perf_counter() - started
        for name, labels in zip(names, found, strict=True):
            print(write(name, labels, args.explain), flush=True)
        if args.save_attention_maps:
            _save_maps(namer, names, images, args, count)
        count += len(names)
    if not args.json:
        print(f"inference time: {seconds:.3f} s for {count} images on {namer.device.type}")
    if broken:
        print(f"[Error] {len(broken)} of {count + len(broken)} images could not be read.", file=sys.stderr)
    return DataError.exit_status if broken or not count else 0


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(description="Name what is in images, with a model of the family nxtp.")
    parser.add_argument("--checkpoint", required=True, help="file that the trainer wrote, or a model folder")
    parser.add_argument("--images", required=True, help="image, folder of images, or - for paths on standard input")
    parser.add_argument("--topk", type=int, default=10, help="labels of an image (default: 10)")
    parser.add_argument("--label-tokenizer", help="file of the decoder's tokenizer (default: the one the model names)")
    parser.add_argument("--prompt", help="what stands before the labels (default: the model's)")
    parser.add_argument("--strategy", default="one_shot", choices=STRATEGIES, help="how labels are written")
    rankings = [name for name in RANKINGS if name != "clip"]
    parser.add_argument("--ranking", default="prob", choices=rankings, help="how labels are ordered")
    parser.add_argument("--extra-rows", type=int, default=0, help="one_shot: labels to write beyond those shown")
    parser.add_argument("--batch-size", type=int, default=16, help="images at a time (default: 16)")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each image")
    parser.add_argument("--explain", action="store_true", help="show the probability of every token of a label")
    parser.add_argument("--save-attention-maps", metavar="DIR", help="write PNG files of what each head looks at")
    parser.add_argument("--device", default="auto", help="where to compute (default: auto)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = make_parser()
    args = parser.parse_args(arguments)
    if args.batch_size < 1:
        parser.error("--batch-size must be at least 1")
    try:
        device = select_device(args.device).activate()
        return infer(open_namer(Path(args.checkpoint), args.label_tokenizer, device), args)
    except OpenClipError as error:
        print(f"[Error] {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"[Error] {printable(error.filename or args.checkpoint)}: {error.strerror}", file=sys.stderr)
        return DataError.exit_status


if __name__ == "__main__":
    sys.exit(main())
