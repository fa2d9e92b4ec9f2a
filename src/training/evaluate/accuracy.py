"""How often the class that scores best is the true one: accuracy, which classes are confused, and mistakes to look at.

Letters: B rows of a batch, C classes, N rows of the whole set.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from open_clip.errors import ConfigError, DataError
from training.distributed import gather_objects
from training.evaluate.base import Evaluation, EvaluationKit, Measured
from training.evaluate.gallery import make_thumbnail
from training.evaluate.hits import count_ahead_of_own, first_best, top_k_of
from training.evaluate.parts import Cell, Images, LabelledImage, Part, Table
from training.evaluate.protocols import EvaluatedTask, ScoresClasses
from training.evaluate.rows import NO_ROW

# More classes than these do not fit a page as a square.
_MOST_SQUARE = 20
_MOST_LISTED = 20


class _Told(NamedTuple):
    """What was told of the rows of all processes, in the file's order; numpy on the host, each [N]."""

    rows: np.ndarray  # index of each row in the table
    labels: np.ndarray  # its class
    best: np.ndarray  # the class that scores best, C where no score is a number
    ahead: np.ndarray  # classes that score better than its own
    share: np.ndarray  # softmax of the best score
    loss: np.ndarray  # cross entropy


class Accuracy(Evaluation):
    """Top-1 and top-5 accuracy of a recipe that scores classes, on the rows of ``--val-data``.

    Of equal scores the first class is the better, as in zero-shot classification.

    Args:
        classnames: [C] in the order of the class numbers.
        prefix: Beginning of the metrics' names.
    """

    name = "accuracy"

    def __init__(self, kit: EvaluationKit, classnames: tuple[str, ...], prefix: str = "val") -> None:
        super().__init__(kit)
        self._classnames = classnames
        self._prefix = prefix

    def measure(self, task: EvaluatedTask) -> Measured:
        """Classify every row; metrics are ``PREFIX-top1``, ``PREFIX-top5``, ``PREFIX-loss`` and ``num_samples``.

        Of five classes or fewer there is no top-5.

        Raises:
            ConfigError: The recipe scores no classes.
            DataError: No row could be read.
        """
        if not isinstance(task, ScoresClasses):
            raise ConfigError(f"accuracy needs a recipe with a method class_scores, which {type(task).__name__} lacks.")
        own = [[part.cpu().numpy() for part in one] for one in self._classify(task)]
        gathered = [one for of_process in gather_objects(own, self.kit.world) for one in of_process]
        if not gathered:
            raise DataError(NO_ROW)
        told = _Told(*(np.concatenate(parts) for parts in zip(*gathered, strict=True)))
        metrics = {f"{self._prefix}-top{k}": float(np.mean(told.ahead < k)) for k in top_k_of(len(self._classnames))}
        metrics |= {f"{self._prefix}-loss": float(np.mean(told.loss)), "num_samples": float(len(told.rows))}
        return Measured(metrics, self._show(told) if self.kit.world.is_master else ())

    def _classify(self, task: ScoresClasses) -> list[tuple[Tensor, ...]]:
        found: list[tuple[Tensor, ...]] = []
        for batch in self.kit.need_rows().batches():
            with self.kit.autocast():
                scores_BC, labels = task.class_scores(task.prepare(batch))
            scores_BC = scores_BC.float()
            best, ahead = first_best(scores_BC), count_ahead_of_own(scores_BC, labels)
            share = scores_BC.softmax(dim=1).amax(dim=1)
            loss = torch.nn.functional.cross_entropy(scores_BC, labels, reduction="none")
            assert batch.indices is not None
            found.append((batch.indices, labels, best, ahead, share, loss))
        return found

    def _show(self, told: _Told) -> tuple[Part, ...]:
        names = (*self._classnames, "none")
        square = len(self._classnames) <= _MOST_SQUARE
        table = _confusion(told, names) if square else _confused_pairs(told, names)
        mistakes = self._mistakes(told, names) if self.kit.need_rows().have_images else None
        return (table, mistakes) if mistakes is not None and mistakes.images else (table,)

    def _mistakes(self, told: _Told, names: tuple[str, ...]) -> Images:
        wrong = np.flatnonzero(told.best != told.labels)
        count = min(self.kit.gallery_size, len(wrong))
        chosen = wrong[np.linspace(0, len(wrong) - 1, count).round().astype(int)] if count else wrong[:0]
        rows = self.kit.need_rows()
        images = []
        for place in chosen.tolist():
            thumbnail = make_thumbnail(*rows.open_image(int(told.rows[place])))
            lines = (names[told.labels[place]], f"told: {names[told.best[place]]} ({100 * told.share[place]:.0f} %)")
            images.append(LabelledImage(thumbnail, lines))
        note = f"{len(wrong):,} of {len(told.rows):,} rows are told wrong; these are spread evenly over them."
        return Images("Mistakes", tuple(images), note)


def _confusion(told: _Told, names: tuple[str, ...]) -> Table:
    """Count how often each class is told to be which; a column without a class only where one is needed."""
    num_classes = len(names) - 1
    counts = np.zeros((num_classes, num_classes + 1), dtype=np.int64)
    np.add.at(counts, (told.labels, told.best), 1)
    width = num_classes + 1 if counts[:, -1].any() else num_classes
    rows: list[tuple[Cell, ...]] = [(names[label], *counts[label, :width].tolist()) for label in range(num_classes)]
    note = "A row holds the images of one class, a column what they are told to be."
    return Table("Confusion", ("class", *names[:width]), tuple(rows), note, is_shaded=True)


def _confused_pairs(told: _Told, names: tuple[str, ...]) -> Table:
    """List the confusions that are the most frequent; of equal ones the first classes."""
    is_wrong = told.best != told.labels
    pairs, counts = np.unique(np.stack([told.labels, told.best])[:, is_wrong], axis=1, return_counts=True)
    of_class = np.bincount(told.labels, minlength=len(names))
    rows: list[tuple[Cell, ...]] = []
    for place in np.argsort(-counts, kind="stable")[:_MOST_LISTED].tolist():
        label, best = pairs[:, place].tolist()
        rows.append((names[label], names[best], int(counts[place]), f"{100 * counts[place] / of_class[label]:.1f} %"))
    note = f"The {len(rows)} most frequent of {len(counts):,} pairs of classes that are confused."
    return Table("Confusion", ("class", "told to be", "rows", "of the class"), tuple(rows), note)
