"""One update of all parameters of a model by AdamW."""

from collections.abc import Mapping
from typing import ClassVar

import torch

from benchmarks.equality import Answers, Rule
from benchmarks.rows.base import Row
from benchmarks.rows.models import LR, make_adamw, make_model
from benchmarks.settings import Values

_CHECKED = 2


class Update(Row):
    """``optimizer.step()`` on gradients that stay the same."""

    unit = "updates"
    # An update moves a weight by about the learning rate; a thousandth of that is rounding.
    rules: ClassVar[Mapping[str, Rule]] = {"weights": Rule("absolute", 1e-3 * LR)}
    sizes: ClassVar[Values] = {"model": "ViT-B-32", "updates": 2}
    tiny: ClassVar[Values] = {"model": "ViT-micro-8-32", "updates": 1}

    def prepare(self) -> Values:
        """Build the model; give each weight a gradient."""
        self.model = make_model(self.size["model"], self.side)
        self.optimizer = make_adamw(self.model, self.side)
        generator = torch.Generator().manual_seed(self.settings.seed)
        for parameter in self.model.parameters():
            parameter.grad = 1e-3 * torch.randn(parameter.shape, generator=generator)
        return {"parameters": sum(parameter.numel() for parameter in self.model.parameters())}

    def check(self) -> Answers:
        """Update twice, so that the moments of the first are used."""
        for _ in range(_CHECKED):
            self.optimizer.step()
        return {"weights": {name: value.detach().clone() for name, value in self.model.named_parameters()}}

    def round(self, number: int) -> int:
        """Update."""
        for _ in range(self.size["updates"]):
            self.optimizer.step()
        return int(self.size["updates"])
