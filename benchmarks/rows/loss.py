"""The contrastive loss alone: features in, gradients of features out."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch

from benchmarks.equality import GRADIENTS, Answers, Rule
from benchmarks.rows.base import Row
from benchmarks.settings import Values

_SAME_LOSS = Rule("relative", 2e-6)


class Contrastive(Row):
    """``ClipLoss`` forward and backward."""

    unit = "losses"
    rules: ClassVar[Mapping[str, Rule]] = {"loss": _SAME_LOSS, "gradients": GRADIENTS}
    sizes: ClassVar[Values] = {"rows": 8192, "width": 512}
    tiny: ClassVar[Values] = {"rows": 48, "width": 16}

    def prepare(self) -> Values:
        """Make features up that agree a little, as early in training."""
        import open_clip

        generator = torch.Generator().manual_seed(self.settings.seed)
        shape = (self.size["rows"], self.size["width"])
        images = torch.randn(shape, generator=generator)
        texts = torch.randn(shape, generator=generator) + 0.3 * images
        self.leaves = self._leaves(images, texts)
        self.loss = open_clip.ClipLoss()
        # The first call of any backward pass loads code and starts threads: not this row's memory.
        torch.ones(2, requires_grad=True).sum().backward()  # type: ignore[no-untyped-call]
        return {"rows": len(self.leaves["image_features"]), "width": self.size["width"]}

    def check(self) -> Answers:
        """Compute the loss and its gradients."""
        loss = self._compute()
        gradients = {name: leaf.grad for name, leaf in self.leaves.items() if leaf.grad is not None}
        return {"loss": {"loss": loss}, "gradients": gradients}

    def round(self, number: int) -> int:
        """Compute them again."""
        self._compute()
        return 1

    def _leaves(self, images: torch.Tensor, texts: torch.Tensor) -> dict[str, torch.Tensor]:
        normalised = (torch.nn.functional.normalize(features, dim=-1) for features in (images, texts))
        device, scale = self.settings.device, torch.tensor(1 / 0.07)
        leaves = zip(("image_features", "text_features", "logit_scale"), (*normalised, scale), strict=True)
        return {name: leaf.to(device).requires_grad_() for name, leaf in leaves}

    def _compute(self) -> torch.Tensor:
        for leaf in self.leaves.values():
            leaf.grad = None
        loss: torch.Tensor = self.loss(**self.leaves)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


class Repeated(Contrastive):
    """A batch too large for the peer, made of copies of one that it can compute, so that the answer is known.

    With c copies each sum of exponentials is c times as large and each probability a c-th. So the loss is that of one
    copy plus ln c, a row's gradient that of one copy divided by c, the scale's gradient that of one copy. The peer
    computes one copy; we compute them all.
    """

    sizes: ClassVar[Values] = {**Contrastive.sizes, "copies": 8}
    tiny: ClassVar[Values] = {**Contrastive.tiny, "copies": 3}

    def check(self) -> Answers:
        """Compute all copies, or one and from it what all copies must give."""
        answers = super().check()
        copies, gradients = self.size["copies"], answers["gradients"]
        if self.side == "ours":
            return answers
        loss = answers["loss"]["loss"] + math.log(copies)
        repeated = {
            name: gradient if gradient.dim() == 0 else (gradient / copies).repeat(copies, 1)
            for name, gradient in gradients.items()
        }
        return {"loss": {"loss": loss}, "gradients": repeated}

    def _leaves(self, images: torch.Tensor, texts: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.side == "ours":
            images, texts = (features.repeat(self.size["copies"], 1) for features in (images, texts))
        return super()._leaves(images, texts)
