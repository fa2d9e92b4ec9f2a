"""From captions or ready labels to the texts behind a batch of images, and what these are to predict."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from open_clip.checked_json import JsonObject
from open_clip.errors import DataError, cut_list, printable
from open_clip.families.nxtp.decoder import make_decoder_cfg
from open_clip.families.nxtp.labels import LabelExtractor
from open_clip.families.nxtp.sequences import LabelSequences, build_sequences
from open_clip.families.nxtp.targets import Targets, targets
from open_clip.families.nxtp.tokenizer import LabelTokenizer
from open_clip.modeling.config import CLIPVisionCfg, make_cfg
from open_clip.tuples import to_pair


class LabelText(NamedTuple):
    """A prompt and the labels behind it."""

    prompt: str
    labels: tuple[str, ...]


class LabelBatch(NamedTuple):
    """Texts behind images.

    Attributes:
        sequences: Prompts with labels, as ids.
        targets: What they are to predict.
        labels: Those of each row as words; empty where nobody asked for them.
    """

    sequences: LabelSequences
    targets: Targets
    labels: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class LabelWriter:
    """Writes the texts of a model.

    Attributes:
        tokenizer: The decoder's.
        extractor: Finds the labels in what a row holds.
        prompts: One is drawn for a row in training; the first stands before any other.
        context: Positions that a text may have.
        mode: ``closed`` or ``public``, which labels a delimiter closes.
        first_token_target: How the first token of a label is learned; see ``targets``.
        loss_on_prompt: Whether the prompt is learned too.
        min_labels: Labels that a row must have.
    """

    tokenizer: LabelTokenizer
    extractor: LabelExtractor
    prompts: Sequence[str]
    context: int
    mode: str = "closed"
    first_token_target: str = "next"
    loss_on_prompt: bool = False
    min_labels: int = 1

    def read(self, text: str, draw: torch.Generator | None = None) -> LabelText:
        """Find the labels of a text.

        Args:
            text: A caption or labels, as the extractor wants it; a JSON list of such texts is one too.
            draw: Draws prompt and order; without it labels keep theirs.

        Raises:
            DataError: It has too few labels, or one that holds the delimiter.
        """
        labels = tuple(self.extractor.extract(_parse(text)))
        if len(labels) < self.min_labels:
            found = f"of these labels only: {cut_list(map(printable, labels))}" if labels else "of no label"
            raise DataError(f"the text is {found}; {self.min_labels} or more are asked for")
        for label in labels:
            self.tokenizer.encode_label(label)
        if draw is None:
            return LabelText(self.prompts[0], labels)
        prompt = self.prompts[int(torch.randint(len(self.prompts), (), generator=draw))]
        order = torch.randperm(len(labels), generator=draw).tolist()
        return LabelText(prompt, tuple(labels[place] for place in order))

    def write(self, texts: Sequence[LabelText], keep_labels: bool = False) -> LabelBatch:
        """Write texts as ids and list what they are to predict; ``keep_labels`` keeps the words as well."""
        prompts, labels = [text.prompt for text in texts], tuple(text.labels for text in texts)
        # Labels that are learned in no order stand where the first would.
        restart = self.first_token_target == "multi"
        sequences = build_sequences(prompts, labels, self.tokenizer, self.context, self.mode, restart_positions=restart)
        found = targets(sequences, self.first_token_target, self.loss_on_prompt)
        return LabelBatch(sequences, found, labels if keep_labels else ())


@dataclass(frozen=True)
class WholeCaption:
    """Takes a caption for one label, without the delimiter in it."""

    delimiter: str

    def extract(self, caption: str | Sequence[str]) -> list[str]:
        """Return the caption alone."""
        text = caption if isinstance(caption, str) else " ".join(caption)
        return [" ".join(text.replace(self.delimiter, " ").split())]


def text_room(model_cfg: JsonObject) -> int:
    """Count the text positions that a checked configuration leaves behind an image."""
    vision, decoder = make_cfg(CLIPVisionCfg, model_cfg["vision_cfg"]), make_decoder_cfg(model_cfg["decoder_cfg"])
    assert vision.patch_size is not None, "the family's check lets no other pass"
    sizes = zip(to_pair(vision.image_size), to_pair(vision.patch_size), strict=True)
    rows, columns = (side // patch for side, patch in sizes)
    return decoder.context_length - rows * columns


def _parse(text: str) -> str | list[str]:
    """Read a JSON list of texts where there is one; anything else is text."""
    if not text.lstrip().startswith("["):
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not all(isinstance(one, str) for one in found):
        raise DataError(f"{printable(text, 100)!r} is no list of texts")
    return list(found)
