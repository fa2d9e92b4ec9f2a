"""Captions into token ids, a batch at a time, new captions in each round."""

from collections.abc import Mapping
from typing import ClassVar

import torch

from benchmarks.captions import describe_lengths, take
from benchmarks.equality import IDENTICAL, Answers, Rule
from benchmarks.inputs import load_captions
from benchmarks.rows.base import Row
from benchmarks.settings import Values

# Rounds' worth of captions before the first timed one.
_WARM_UP = 6


class Tokenize(Row):
    """The tokenizer of CLIP models."""

    unit = "captions"
    rules: ClassVar[Mapping[str, Rule]] = {"ids": IDENTICAL}
    sizes: ClassVar[Values] = {"texts": 2048, "batch": 64}
    tiny: ClassVar[Values] = {"texts": 64, "batch": 16}

    def prepare(self) -> Values:
        """Make the tokenizer."""
        import open_clip

        self.tokenizer = open_clip.get_tokenizer("ViT-B-32")
        self.captions = load_captions(self.options["captions"], self.settings)
        lengths = self.tokenizer(self.captions[:2000]).argmax(dim=1) + 1
        not_ascii = sum(not caption.isascii() for caption in self.captions)
        return {
            "captions": len(self.captions),
            "not ASCII": round(not_ascii / len(self.captions), 3),
            "token lengths": describe_lengths(lengths.tolist()),
        }

    def check(self) -> Answers:
        """Tokenize what the rounds do not see before."""
        return {"ids": {"texts": self._tokenize(take(self.captions, 0, 2 * self.size["texts"]))}}

    def warm_up(self) -> None:
        """Tokenize more of them: both sides remember words, and a run of training has seen the common ones."""
        self._tokenize(take(self.captions, 2 * self.size["texts"], _WARM_UP * self.size["texts"]))

    def round(self, number: int) -> int:
        """Tokenize the captions of this round, which were not seen before."""
        count = self.size["texts"]
        return len(self._tokenize(take(self.captions, (number + 2 + _WARM_UP) * count, count)))

    def _tokenize(self, captions: list[str]) -> torch.Tensor:
        batch = self.size["batch"]
        return torch.cat([self.tokenizer(captions[start : start + batch]) for start in range(0, len(captions), batch)])
