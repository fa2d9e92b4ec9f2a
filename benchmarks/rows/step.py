"""A training step as a user of the library writes it: forward, loss, backward, clipping, AdamW, clamp."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from benchmarks.captions import describe_lengths, take
from benchmarks.equality import FEATURES, IDENTICAL, LOSSES, MODEL_GRADIENTS, Answers, Rule
from benchmarks.inputs import load_captions
from benchmarks.rows.base import Row
from benchmarks.rows.models import make_adamw, make_images, make_model, model_inputs
from benchmarks.settings import Values

_FEW = 5


class Step(Row):
    """One optimizer step in fp32; each round has captions of its own."""

    unit = "steps"
    rules: ClassVar[Mapping[str, Rule]] = {
        "tokens": IDENTICAL,
        "features": FEATURES,
        "gradients": MODEL_GRADIENTS,
        "losses": LOSSES,
    }
    sizes: ClassVar[Values] = {"model": "ViT-B-32", "batch": 32, "steps": 1}
    tiny: ClassVar[Values] = {"model": "ViT-micro-8-32", "batch": 4, "steps": 1}

    def prepare(self) -> Values:
        """Build the model and its optimizer; tokenize the captions."""
        import open_clip

        self.model = make_model(self.size["model"], self.side, output_dict=True)
        self.model.train()
        self.optimizer = make_adamw(self.model, self.side)
        self.loss = open_clip.ClipLoss()
        tokenizer, self.image_size = model_inputs(self.size["model"], self.model)
        captions = load_captions(self.options["captions"], self.settings)
        batch, steps = self.size["batch"], self.settings.checked_steps + 40 * self.size["steps"]
        self.texts = tokenizer(take(captions, 0, min(len(captions), batch * steps))).split(batch)
        lengths = torch.cat(list(self.texts)).argmax(dim=1) + 1
        self.images = make_images(batch, self.image_size, self.settings.seed)
        self.done = 0
        return {"batch": batch, "model": self.size["model"], "token lengths": describe_lengths(lengths.tolist())}

    def check(self) -> Answers:
        """Encode, then train for the checked steps; the first step's gradients are compared as they are."""
        texts = self.texts[0]
        with torch.no_grad():
            features = {
                "image": self.model.encode_image(self.images[: len(texts)], normalize=True),
                "text": self.model.encode_text(texts, normalize=True),
            }
        answers: Answers = {"tokens": dict(enumerate_named(self.texts[:_FEW])), "features": features}
        losses: list[torch.Tensor] = []
        while len(losses) < self.settings.checked_steps:
            losses.append(self._backward())
            if len(losses) == 1:
                named = self.model.named_parameters()
                answers["gradients"] = {name: p.grad.clone() for name, p in named if p.grad is not None}
            self._update()
        return {**answers, "losses": dict(enumerate_named(losses))}

    def round(self, number: int) -> int:
        """Take steps."""
        for _ in range(self.size["steps"]):
            self._backward()
            self._update()
        return int(self.size["steps"])

    def _backward(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        texts = self.texts[self.done % len(self.texts)]
        self.done += 1
        outputs = self.model(self.images[: len(texts)], texts)
        loss: torch.Tensor = self.loss(**outputs)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))


def enumerate_named(tensors: Any) -> list[tuple[str, torch.Tensor]]:
    """Name tensors by their place."""
    return [(f"number {place}", tensor) for place, tensor in enumerate(tensors)]
