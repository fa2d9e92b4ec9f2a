"""How well predicted labels and those of the data cover each other: recall, precision, F1, and how they differ.

Letters: T known labels of an image, V predicted ones.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from open_clip.errors import ConfigError, DataError, printable
from training.data import Batch
from training.distributed import gather_objects
from training.evaluate.base import Evaluation, EvaluationKit, Measured
from training.evaluate.examples import Example, Gallery, Match
from training.evaluate.gallery import make_thumbnail
from training.evaluate.labels_encoders import fold, make_judge
from training.evaluate.labels_scores import Cover, average, score_labels
from training.evaluate.parts import Note, Part
from training.evaluate.protocols import EvaluatedTask, PredictsLabels
from training.evaluate.rows import NO_ROW

_INTRO = (
    "Images spread evenly over {images} of the validation data, with the labels that were predicted, their "
    "probabilities, and whether the data has them, word for word. A label that the data does not name may be right "
    "all the same."
)


class _Told(NamedTuple):
    """What was predicted for one row; plain data, so that processes can exchange it."""

    row: int
    known: tuple[str, ...]
    predicted: tuple[str, ...]
    probs: tuple[float, ...]
    similarities: list[list[float]]
    cover: Cover
    losses: dict[str, float]


class LabelRecall(Evaluation):
    """Recall, precision and F1 of a recipe that predicts labels, on the rows of ``--val-data``.

    Args:
        kit: What it measures with.
        topk: Labels that are predicted for an image.
        encoder: What compares labels, a word of ``--label-encoder``.
        how: How labels are predicted, for the name of the file.

    Raises:
        ConfigError: There is no such encoder.
        MissingDependency: It needs a package that is not installed.
    """

    name = "labels"

    def __init__(self, kit: EvaluationKit, topk: int, encoder: str | None = None, how: str = "") -> None:
        super().__init__(kit)
        self._topk = topk
        self._judge = make_judge(encoder)
        self._how = how

    def measure(self, task: EvaluatedTask) -> Measured:
        """Predict labels for every row; each metric ends in ``@`` and their number.

        Raises:
            ConfigError: The recipe predicts no labels.
            DataError: No row could be read.
        """
        if not isinstance(task, PredictsLabels):
            raise ConfigError(f"labels needs a recipe with predict_labels, which {type(task).__name__} lacks.")
        own = [told for batch in self.kit.need_rows().batches() for told in self._tell(task, batch)]
        gathered = [told for of_process in gather_objects(own, self.kit.world) for told in of_process]
        if not gathered:
            raise DataError(NO_ROW)
        # In the order of the data, so that the sums do not depend on the number of processes.
        gathered.sort(key=lambda told: told.row)
        mean = average([told.cover for told in gathered])
        metrics = {f"label_{name}@{self._topk}": value for name, value in mean._asdict().items()}
        for name in gathered[0].losses:
            metrics[name] = float(np.mean([told.losses[name] for told in gathered]))
        metrics["num_samples"] = float(len(gathered))
        if not self.kit.world.is_master:
            return Measured(metrics)
        name = "-".join(word for word in (self.name, self._how, f"top{self._topk}") if word)
        return Measured(metrics, self._show(gathered), {f"{name}.res": self._write(gathered, mean)})

    def _tell(self, task: PredictsLabels, batch: Batch) -> list[_Told]:
        """Predict the labels of a batch and compare them with those of the data."""
        with self.kit.autocast():
            prepared = task.prepare(batch)
            measured = task.row_metrics(task.forward(prepared))
            predicted = task.predict_labels(prepared, self._topk)
        known = task.reference_labels(prepared)
        figures = {name: values.float().tolist() for name, values in measured.items()}
        words = [[label.text for label in labels] for labels in predicted]
        # What is not there is compared as no word.
        compared = [(list(of_row) or [""], named or [""]) for of_row, named in zip(known, words, strict=True)]
        self._judge.learn([word for pair in compared for labels in pair for word in labels], batch.images.device)
        assert batch.indices is not None
        told = []
        for place, (of_row, named) in enumerate(compared):
            similarities = self._judge.similarity(of_row, named)
            cover = score_labels(similarities, self._judge.similarity(named, named))
            probs = tuple(float(label.prob) for label in predicted[place])
            losses = {name: values[place] for name, values in figures.items()}
            row = int(batch.indices[place])
            told.append(_Told(row, known[place], tuple(words[place]), probs, similarities.tolist(), cover, losses))
        return told

    def _write(self, gathered: Sequence[_Told], mean: Cover) -> str:
        """Write a line of JSON for each row, and the figures of all below them."""
        rows, lines = self.kit.need_rows(), []
        for told in gathered:
            path = rows.source.image_path(told.row) or rows.source.key(told.row)
            names = zip(told.predicted, told.probs, strict=True)
            entry = {
                "path": path,
                "tgts": told.known,
                "vocs": [[name, round(prob, 5)] for name, prob in names],
                "scores": [[round(value, 5) for value in row] for row in told.similarities],
                "div_scores": [None if value != value else round(value, 5) for value in told.cover[3:]],
            }
            lines.append(json.dumps(entry, ensure_ascii=False))
        ends = zip(("sscr_R", "sscr_P", "sscr_F1", "div_mean", "div_std"), mean, strict=True)
        return "\n".join([*lines, *(f"- {value:.5f} : {name}" for name, value in ends)]) + "\n"

    def _show(self, gathered: Sequence[_Told]) -> tuple[Part, ...]:
        note = Note(
            f"{self._topk} labels of an image are predicted ({self._how}) and compared with those of the data by "
            f"{self._judge.title}. Precision falls with their number where the data names few."
        )
        count = min(self.kit.gallery_size, len(gathered))
        chosen = [gathered[place] for place in torch.linspace(0, len(gathered) - 1, count).round().long().tolist()]
        rows = self.kit.need_rows()
        thumbnails = {str(told.row): make_thumbnail(*rows.open_image(told.row)) for told in chosen}
        gallery = Gallery(
            tuple(_example(told) for told in chosen),
            (),
            thumbnails,
            len(gathered),
            sum(len(told.known) for told in gathered),
            intro=_INTRO.format(images=f"{len(gathered):,}"),
            images_title="Images and their labels",
            own_title="Labels of the data",
        )
        return (note, gallery) if chosen else (note,)


def _example(told: _Told) -> Example:
    """Mark the predicted labels that the data has."""
    known = {fold(label) for label in told.known}
    matches = tuple(
        Match(printable(label), round(prob, 4), fold(label) in known)
        for label, prob in zip(told.predicted, told.probs, strict=True)
    )
    own = tuple(printable(label) for label in told.known)
    return Example(str(told.row), own, matches, any(match.is_right for match in matches[:1]))
