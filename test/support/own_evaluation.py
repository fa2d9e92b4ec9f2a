"""A recipe with an evaluation of its own, as a user writes it: ``--task own_evaluation.py:WithCloseness``.

The file that ``STOP_FILE`` names makes the evaluation fail after the step whose number it holds.
"""

import os
from pathlib import Path

import torch

from open_clip.errors import DataError
from training.evaluate import Accuracy, Evaluation, Measured, Note, Table
from training.tasks import ClipTask


class Closeness(Evaluation):
    """Mean similarity of an image and its own caption."""

    name = "closeness"
    _step = 0

    def is_due(self, occasion):
        self._step = occasion.step
        return super().is_due(occasion)

    def measure(self, task):
        stop = Path(os.environ.get("STOP_FILE", "/nowhere"))
        if stop.is_file() and int(stop.read_text()) == self._step:
            raise DataError("the test stops the run here")
        total, rows = torch.zeros(()), 0
        for _, outputs in self.kit.outputs(task):
            scores = outputs["image_features"] @ outputs["text_features"].T
            total += scores.diagonal().sum()
            rows += len(scores)
        sums = self.kit.add_up({"closeness": total, "rows": rows})
        mean = sums["closeness"] / sums["rows"]
        table = Table("By set", ("set", "closeness"), (("validation", mean),))
        return Measured({"closeness": mean}, (Note("Larger is better."), table), {"closeness.txt": f"{rows} rows\n"})


class WithCloseness(ClipTask):
    """CLIP, measured by its closeness too, and by classes that mean nothing."""

    name = "with-closeness"

    def evaluations(self, kit):
        return (*super().evaluations(kit), Closeness(kit), Accuracy(kit, ("north", "east", "south", "west"), "sky"))

    def class_scores(self, batch):
        return 10 * self.encode_images(batch.images)[:, :4], batch.image_ids % 4
