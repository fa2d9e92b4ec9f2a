"""Evaluate a model on image-text pairs, spread over all processes; writes nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from open_clip.errors import DataError
from open_clip.transformer.layout import TextShapes
from training.data import Batch, EvalLoader
from training.distributed import World, unwrap_model
from training.evaluate.encode import Autocast, Encoder
from training.evaluate.retrieval import retrieval_metrics
from training.tasks import Task

# Scores of the loss that are held at a time; a block is as large as the global batch.
_TILE_ROWS: Final = 1024


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: Names to figures, upstream's names among them.
        image_features: [N, E] normalised fp32 features of the rows that could be read, in the file's order.
        text_features: [N, E] likewise.
        image_ids: [N] rows of one picture share a number.
        rows: [N] index of each row in the validation table.
    """

    metrics: dict[str, float]
    image_features: Tensor
    text_features: Tensor
    image_ids: Tensor
    rows: Tensor


@torch.no_grad()
def evaluate_pairs(
    task: Task,
    loader: EvalLoader,
    receive: Callable[[Batch], Batch],
    *,
    world: World,
    global_batch: int,
    autocast: Autocast,
    shapes: TextShapes = "padded",
) -> Evaluation:
    """Encode each picture and each caption once and compute loss and retrieval metrics.

    Args:
        task: Recipe; its unwrapped model is put into evaluation mode and back.
        loader: This process's share of the rows.
        receive: Brings a batch to the device.
        world: Place of this process.
        global_batch: Rows of one loss; the mean over such blocks is ``clip_val_loss``, whatever the number of
            processes.
        autocast: Opens the precision's forward context.
        shapes: What of texts is computed, the device's policy.

    Raises:
        DataError: When no row could be read.
    """
    model = unwrap_model(task.model)
    wrapped, was_training = task.model, model.training
    task.model = model.eval()
    try:
        encoded = Encoder(task, receive, autocast, shapes).encode(loader, world)
        scale = task.logit_scale()
    finally:
        task.model = wrapped
        model.train(was_training)
    images, texts, image_ids, rows, sums = encoded
    if not len(rows):
        raise DataError("no validation row could be read: see bad_samples.jsonl in the run folder for the reasons.")
    metrics = retrieval_metrics(images, texts, image_ids)
    metrics["clip_val_loss"] = _blockwise_loss(images, texts, scale, global_batch)
    metrics["num_samples"] = float(len(rows))
    metrics |= {name: value / len(rows) for name, value in sums.items()}
    return Evaluation(metrics, images.cpu(), texts.cpu(), image_ids, rows)


def _blockwise_loss(images: Tensor, texts: Tensor, scale: Tensor, block: int) -> float:
    """Average the contrastive loss of blocks of rows, weighted by their sizes.

    Source: open_clip 3.3.0, ``evaluate``.
    """
    total = torch.zeros((), device=images.device)
    for start in range(0, len(images), block):
        total += _sum_of_losses(scale * images[start : start + block], texts[start : start + block])
    return float(total / len(images))


def _sum_of_losses(images: Tensor, texts: Tensor) -> Tensor:
    """Add up the mean cross entropies of pictures and texts against each other, some rows of the scores at a time."""
    total = torch.zeros((), device=images.device)
    of_texts: Tensor | None = None
    for start in range(0, len(images), _TILE_ROWS):
        scores = images[start : start + _TILE_ROWS] @ texts.T
        total += scores.logsumexp(1).sum() - 2 * scores.diagonal(start).sum()
        columns = scores.logsumexp(0)
        of_texts = columns if of_texts is None else torch.logaddexp(of_texts, columns)
    assert of_texts is not None
    return (total + of_texts.sum()) / 2
