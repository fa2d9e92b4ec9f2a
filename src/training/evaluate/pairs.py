"""The evaluations of models of images and texts; retrieval on the rows of ``--val-data`` is one of them."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from open_clip.loss import ClipLoss
from training.evaluate.base import Evaluation, EvaluationKit, Measured
from training.evaluate.encode import Encoded, encode_rows
from training.evaluate.gallery import build_gallery
from training.evaluate.parts import Part
from training.evaluate.protocols import EvaluatedTask
from training.evaluate.relevance import Relevance, relevance_metrics
from training.evaluate.retrieval import retrieval_metrics
from training.evaluate.zero_shot import ZeroShot


def pair_evaluations(kit: EvaluationKit) -> tuple[Evaluation, ...]:
    """Make retrieval and zero-shot classification, each where the run has data for it."""
    retrieval = () if kit.rows is None else (Retrieval(kit), SetRetrieval(kit))
    return (*retrieval, *((ZeroShot(kit),) if kit.class_sets else ()))


class Retrieval(Evaluation):
    """Encodes each image and each caption once and computes retrieval metrics and the contrastive loss."""

    name = "retrieval"

    def measure(self, task: EvaluatedTask) -> Measured:
        """Measure; figures are those of one process, whatever their number.

        ``clip_val_loss`` is the mean over blocks of ``kit.global_batch`` rows, for a recipe that has a ``logit_scale``.

        Raises:
            DataError: When no row could be read.
        """
        encoded = encode_rows(task, self.kit)
        images, texts, image_ids, rows, sums = encoded
        metrics = retrieval_metrics(images, texts, image_ids, world=self.kit.world)
        scale = task.figures().get("logit_scale")
        if scale is not None:
            metrics["clip_val_loss"] = _blockwise_loss(images, texts, scale, self.kit.global_batch)
        metrics["num_samples"] = float(len(rows))
        metrics |= {name: value / len(rows) for name, value in sums.items()}
        return Measured(metrics, self._show(encoded))

    def _show(self, encoded: Encoded) -> tuple[Part, ...]:
        if not self.kit.gallery_size or not self.kit.world.is_master:
            return ()
        rows, positions = self.kit.need_rows(), encoded.rows.tolist()
        gallery = build_gallery(
            encoded.images.cpu(),
            encoded.texts.cpu(),
            encoded.image_ids,
            lambda place: rows.caption(positions[place]),
            lambda place: rows.open_image(positions[place]),
            count=self.kit.gallery_size,
        )
        return (gallery,)


class SetRetrieval(Evaluation):
    """Retrieval where right answers are sets on both sides: rows of one image are one image, equal captions one text.

    Metrics are those of :func:`relevance_metrics`, ``set_`` before each name.
    """

    name = "set-retrieval"
    is_on_request = True

    def measure(self, task: EvaluatedTask) -> Measured:
        """Measure; figures are those of one process, whatever their number.

        Raises:
            DataError: No row could be read.
        """
        rows = self.kit.need_rows()
        encoded = encode_rows(task, self.kit)
        image_ids, captions = encoded.image_ids.tolist(), [rows.caption(row) for row in encoded.rows.tolist()]
        relevance = Relevance.from_rows(image_ids, captions)
        images, texts = encoded.images[_first_rows(image_ids)], encoded.texts[_first_rows(captions)]
        metrics = relevance_metrics(images, texts, relevance, world=self.kit.world)
        return Measured({f"set_{name}": value for name, value in metrics.items()})


def _first_rows(ids: Sequence[Hashable]) -> list[int]:
    first: dict[Hashable, int] = {}
    for row, one in enumerate(ids):
        first.setdefault(one, row)
    return list(first.values())


def _blockwise_loss(images: Tensor, texts: Tensor, scale: Tensor, block: int) -> float:
    """Average the contrastive loss of blocks of rows, weighted by their sizes.

    Source: open_clip 3.3.0, ``evaluate``.
    """
    total, loss = torch.zeros((), device=images.device), ClipLoss()
    for start in range(0, len(images), block):
        rows = slice(start, start + block)
        total += loss.pair_loss(images[rows], texts[rows], scale) * len(images[rows])
    return float(total / len(images))
