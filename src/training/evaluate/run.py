"""Evaluate a model on image-text pairs, spread over all processes; writes nothing."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from open_clip.errors import DataError
from open_clip.loss import ClipLoss
from open_clip.transformer.layout import TextShapes
from training.data import Batch, EvalLoader
from training.distributed import World, unwrap_model
from training.evaluate.encode import Autocast, Encoder
from training.evaluate.retrieval import retrieval_metrics
from training.tasks import Task


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: Names to figures, upstream's names among them.
        image_features: [N, E] normalised fp32 features of the rows that could be read, in the file's order.
        text_features: [N, E] likewise.
        image_ids: [N] rows of one image share a number.
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
    """Encode each image and each caption once and compute loss and retrieval metrics.

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
        scale = task.figures()["logit_scale"]
    finally:
        task.model = wrapped
        model.train(was_training)
    images, texts, image_ids, rows, sums = encoded
    if not len(rows):
        raise DataError("no validation row could be read: see bad_samples.jsonl in the run folder for the reasons.")
    metrics = retrieval_metrics(images, texts, image_ids, world=world)
    metrics["clip_val_loss"] = _blockwise_loss(images, texts, scale, global_batch)
    metrics["num_samples"] = float(len(rows))
    metrics |= {name: value / len(rows) for name, value in sums.items()}
    return Evaluation(metrics, images.cpu(), texts.cpu(), image_ids, rows)


def _blockwise_loss(images: Tensor, texts: Tensor, scale: Tensor, block: int) -> float:
    """Average the contrastive loss of blocks of rows, weighted by their sizes.

    Source: open_clip 3.3.0, ``evaluate``.
    """
    total, loss = torch.zeros((), device=images.device), ClipLoss()
    for start in range(0, len(images), block):
        rows = slice(start, start + block)
        total += loss.pair_loss(images[rows], texts[rows], scale) * len(images[rows])
    return float(total / len(images))
