"""Evaluate a model on image-text pairs, spread over all processes; writes nothing."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from open_clip.errors import DataError
from training.data import Batch, EvalLoader
from training.distributed import World, gather_objects, gather_rows, unwrap_model
from training.evaluate.retrieval import retrieval_metrics
from training.tasks import Outputs, Task


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
    image_features: torch.Tensor
    text_features: torch.Tensor
    image_ids: torch.Tensor
    rows: torch.Tensor


@torch.no_grad()
def evaluate_pairs(
    task: Task,
    loader: EvalLoader,
    receive: Callable[[Batch], Batch],
    *,
    world: World,
    global_batch: int,
    autocast: Callable[[], contextlib.AbstractContextManager[None]],
) -> Evaluation:
    """Encode all rows once and compute loss and retrieval metrics.

    Args:
        task: Recipe; its unwrapped model is put into evaluation mode and back.
        loader: This process's share of the rows.
        receive: Brings a batch to the device.
        world: Place of this process.
        global_batch: Rows of one loss; the mean over such blocks is ``clip_val_loss``, whatever the number of
            processes.
        autocast: Opens the precision's forward context.

    Raises:
        DataError: When no row could be read.
    """
    model = unwrap_model(task.model)
    wrapped, was_training = task.model, model.training
    task.model = model.eval()
    try:
        image_features, text_features, image_ids, rows, scale, sums = _encode(task, loader, receive, autocast)
    finally:
        task.model = wrapped
        model.train(was_training)
    image_features, text_features = gather_rows(image_features, world), gather_rows(text_features, world)
    image_ids = torch.cat(gather_objects(image_ids, world))
    rows = torch.cat(gather_objects(rows, world))
    if not len(rows):
        raise DataError("no validation row could be read: see bad_samples.jsonl in the run folder for the reasons.")
    metrics = retrieval_metrics(image_features, text_features, image_ids.to(image_features.device))
    metrics["clip_val_loss"] = _blockwise_loss(image_features, text_features, scale, global_batch)
    metrics["num_samples"] = float(len(rows))
    for of_process in gather_objects({name: float(value) for name, value in sums.items()}, world):
        for name, value in of_process.items():
            metrics[name] = metrics.get(name, 0.0) + value / len(rows)
    return Evaluation(metrics, image_features.cpu(), text_features.cpu(), image_ids, rows)


def _encode(
    task: Task,
    loader: EvalLoader,
    receive: Callable[[Batch], Batch],
    autocast: Callable[[], contextlib.AbstractContextManager[None]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, Outputs]:
    """Encode this process's rows and sum up the task's own figures of them."""
    images, texts, image_ids, rows = [], [], [], []
    sums: Outputs = {}
    scale = task.logit_scale()
    empty = torch.empty(0, unwrap_model(task.model).visual.output_dim, device=scale.device)  # type: ignore[union-attr, arg-type]
    for batch in loader:
        received = receive(batch)
        if not len(received.images):
            continue
        with autocast():
            outputs = task.forward(task.prepare(received))
        for name, figures in task.row_metrics(outputs).items():
            sums[name] = sums.get(name, torch.zeros((), device=figures.device)) + figures.sum()
        images.append(outputs["image_features"].float())
        texts.append(outputs["text_features"].float())
        assert batch.image_ids is not None
        assert batch.indices is not None
        image_ids.append(batch.image_ids)
        rows.append(batch.indices)
    if not images:
        none = torch.empty(0, dtype=torch.int64)
        return empty, empty, none, none, scale, sums
    return torch.cat(images), torch.cat(texts), torch.cat(image_ids), torch.cat(rows), scale, sums


def _blockwise_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, block: int) -> float:
    """Average the contrastive loss of blocks of rows, weighted by their sizes.

    Source: open_clip 3.3.0, ``evaluate``.
    """
    total = torch.zeros((), device=images.device)
    for start in range(0, len(images), block):
        image_rows, text_rows = images[start : start + block], texts[start : start + block]
        logits = scale * image_rows @ text_rows.T
        labels = torch.arange(len(logits), device=logits.device)
        cross_entropy = torch.nn.functional.cross_entropy
        total += (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2 * len(logits)
    return float(total / len(images))
