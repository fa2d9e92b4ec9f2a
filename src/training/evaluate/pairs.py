"""The evaluations of models of images and texts; retrieval on the rows of ``--val-data`` is one of them."""

import torch
from torch import Tensor

from open_clip.errors import DataError
from open_clip.loss import ClipLoss
from training.evaluate.base import Evaluation, EvaluationKit, Measured
from training.evaluate.encode import Encoded, encode_rows
from training.evaluate.gallery import build_gallery
from training.evaluate.parts import Part
from training.evaluate.protocols import EvaluatedTask
from training.evaluate.retrieval import retrieval_metrics
from training.evaluate.zero_shot import ZeroShot


def pair_evaluations(kit: EvaluationKit) -> tuple[Evaluation, ...]:
    """Make retrieval and zero-shot classification, each where the run has data for it."""
    retrieval = () if kit.rows is None else (Retrieval(kit),)
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
        if not len(rows):
            raise DataError("no validation row could be read: see bad_samples.jsonl in the run folder for the reasons.")
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


def _blockwise_loss(images: Tensor, texts: Tensor, scale: Tensor, block: int) -> float:
    """Average the contrastive loss of blocks of rows, weighted by their sizes.

    Source: open_clip 3.3.0, ``evaluate``.
    """
    total, loss = torch.zeros((), device=images.device), ClipLoss()
    for start in range(0, len(images), block):
        rows = slice(start, start + block)
        total += loss.pair_loss(images[rows], texts[rows], scale) * len(images[rows])
    return float(total / len(images))
