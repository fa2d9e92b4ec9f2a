"""The text tower at inference: captions into features, class names into a classifier."""

from collections.abc import Mapping
from typing import ClassVar

import torch

from benchmarks.captions import describe_lengths, make_captions, take
from benchmarks.equality import FEATURES, IDENTICAL, Answers, Rule
from benchmarks.inputs import load_captions
from benchmarks.rows.base import Row
from benchmarks.rows.models import make_model, model_inputs
from benchmarks.settings import Values

_TEMPLATES = (
    "a photo of a {}.",
    "a blurry photo of the {}.",
    "itap of a {}.",
    "a {} in a video game.",
    "art of the {}.",
)


class EncodeText(Row):
    """``encode_text`` on a batch without gradients."""

    unit = "captions"
    rules: ClassVar[Mapping[str, Rule]] = {"tokens": IDENTICAL, "features": FEATURES}
    sizes: ClassVar[Values] = {"model": "ViT-B-32", "batch": 64}
    tiny: ClassVar[Values] = {"model": "ViT-micro-8-32", "batch": 4}

    def prepare(self) -> Values:
        """Build the model; tokenize the captions."""
        self.model = make_model(self.size["model"], self.side).eval()
        tokenizer, _ = model_inputs(self.size["model"], self.model)
        captions = load_captions(self.options["captions"], self.settings)
        batch = self.size["batch"]
        self.texts = tokenizer(take(captions, 0, min(len(captions), 20 * batch))).split(batch)
        lengths = torch.cat(list(self.texts)).argmax(dim=1) + 1
        return {"batch": batch, "model": self.size["model"], "token lengths": describe_lengths(lengths.tolist())}

    @torch.no_grad()
    def check(self) -> Answers:
        """Encode the first batches."""
        texts = torch.cat(list(self.texts[:2]))
        features = [self.model.encode_text(batch, normalize=True) for batch in self.texts[:2]]
        return {"tokens": {"texts": texts}, "features": {"text": torch.cat(features)}}

    @torch.no_grad()
    def round(self, number: int) -> int:
        """Encode the next batch."""
        texts = self.texts[number % len(self.texts)]
        self.model.encode_text(texts, normalize=True)
        return len(texts)


class ZeroShot(Row):
    """``build_zero_shot_classifier`` over class names and templates."""

    unit = "classes"
    rules: ClassVar[Mapping[str, Rule]] = {"classifier": FEATURES}
    sizes: ClassVar[Values] = {"model": "ViT-B-32", "classes": 20}
    tiny: ClassVar[Values] = {"model": "ViT-micro-8-32", "classes": 3}

    def prepare(self) -> Values:
        """Build the model and choose class names."""
        self.model = make_model(self.size["model"], self.side).eval()
        self.tokenizer, _ = model_inputs(self.size["model"], self.model)
        words = make_captions("short", 2 * self.size["classes"], self.settings.seed)
        self.classes = [" ".join(caption.split()[:2]) for caption in words][: self.size["classes"]]
        texts = [template.format(name) for name in self.classes for template in _TEMPLATES]
        lengths = self.tokenizer(texts).argmax(dim=1) + 1
        return {
            "classes": len(self.classes),
            "templates": len(_TEMPLATES),
            "model": self.size["model"],
            "token lengths": describe_lengths(lengths.tolist()),
        }

    def check(self) -> Answers:
        """Build the classifier."""
        return {"classifier": {"weights": self._build()}}

    def round(self, number: int) -> int:
        """Build it again."""
        self._build()
        return len(self.classes)

    def _build(self) -> torch.Tensor:
        import open_clip

        templates = [template.format for template in _TEMPLATES]
        weights: torch.Tensor = open_clip.build_zero_shot_classifier(
            self.model, self.tokenizer, self.classes, templates, num_classes_per_batch=10, device="cpu", use_tqdm=False
        )
        return weights
