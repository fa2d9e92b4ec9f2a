"""A recipe of a user's own, outside the packages: images with a long and a short caption, weighed by what it learns.

It is given by path, as ``--task two_texts.py:TwoTexts``, and is what the tests of such recipes run.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from open_clip.loss import ClipLoss
from training.evaluate import Evaluation, Measured
from training.params.flags import flag
from training.params.values import number
from training.tasks import ClipTask
from training.tasks.clip import loss_options, name_outputs


@dataclass(frozen=True)
class Flags:
    """Two texts."""

    short_share: float = flag(0.3, "share that the short captions' loss begins with", type=number(above=0.0, below=1.0))


class TwoTexts(ClipTask):
    """Each image finds its long caption and its short one; how much the short ones count is learned."""

    name = "two-texts"
    Flags = Flags

    def __init__(self, model, loss, *, share, **options):
        super().__init__(model, loss, **options)
        self.own = torch.nn.ParameterDict({"share": torch.logit(torch.tensor([share])).to(next(model.parameters()))})

    @classmethod
    def build(cls, setup):
        """Make it with CLIP's loss."""
        share = setup.params.own.short_share
        return cls(setup.model, ClipLoss(**loss_options(setup)), share=share, **setup.options)

    @classmethod
    def fields(cls, kit, params):
        """Read a second text."""
        return (*super().fields(kit, params), kit.text("short_text", "short_texts"))

    def forward(self, batch):
        """Encode the short captions too."""
        short = name_outputs(self.model(None, batch.values["short_texts"].for_model()))
        return super().forward(batch) | {"short_features": short["text_features"]}

    def row_outputs(self):
        """Name what both contrasts read."""
        return (*super().row_outputs(), "short_features")

    def joint_losses(self, outputs):
        """Weigh both contrasts."""
        share = self.own["share"].sigmoid().squeeze()
        features = {name: outputs[name] for name in ("image_features", "text_features", "logit_scale")}
        short = features | {"text_features": outputs["short_features"]}
        return {"long_loss": (1 - share) * self.loss(**features), "short_loss": share * self.loss(**short)}

    def parameter_losses(self):
        """Keep the share from running away."""
        return {"share_loss": 0.1 * self.own["share"].square().sum()}

    def figures(self):
        """Report the share beside the temperature."""
        return super().figures() | {"short_share": self.own["share"].detach().sigmoid().squeeze()}

    def evaluations(self, kit):
        """Measure how near both captions of a row are, beside what CLIP measures."""
        return (*super().evaluations(kit), Nearness(kit))


class Nearness(Evaluation):
    """Mean cosine of a row's two captions."""

    name = "nearness"

    def measure(self, task):
        """Add up the cosines of all rows, over all processes."""
        total, rows = 0.0, 0
        for _, outputs in self.kit.outputs(task):
            total += F.cosine_similarity(outputs["text_features"], outputs["short_features"]).sum().item()
            rows += len(outputs["text_features"])
        sums = self.kit.add_up({"total": total, "rows": rows})
        return Measured({"caption_nearness": sums["total"] / sums["rows"]})
