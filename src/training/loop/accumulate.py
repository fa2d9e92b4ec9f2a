"""Gradient of one large contrastive batch from several small forward passes.

A contrastive loss couples all rows, so summing the losses of small batches is another objective. Instead all features
are computed once without gradient, then each small batch is run again with gradient among the cached rest (GradCache,
arXiv 2101.06983). The weights' gradients equal those of the large batch.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch

from training.data import Batch
from training.tasks import Outputs, Task

Backward = Callable[[torch.Tensor], None]
Autocast = Callable[[], contextlib.AbstractContextManager[None]]


def backward_batches(task: Task, batches: Sequence[Batch], autocast: Autocast, backward: Backward) -> Outputs:
    """Put the gradient of one optimizer step into the parameters.

    Args:
        task: The recipe; its model may be wrapped for several processes.
        batches: Prepared batches on the device; together they are one optimizer step.
        autocast: Opens the precision's forward context.
        backward: Runs the (scaled) backward pass of a loss.

    Returns:
        The step's named losses, detached.
    """
    if len(batches) == 1:
        with autocast():
            losses = task.losses(task.forward(batches[0]))
            total = sum_losses(losses)
        backward(total)
        return {name: value.detach() for name, value in losses.items()}
    return _backward_cached(task, batches, autocast, backward)


def sum_losses(losses: Outputs) -> torch.Tensor:
    """Add up named losses."""
    return torch.stack([value.float() for value in losses.values()]).sum()


def _backward_cached(task: Task, batches: Sequence[Batch], autocast: Autocast, backward: Backward) -> Outputs:
    with torch.no_grad(), autocast():
        cached = [_rows(task, task.forward(batch)) for batch in batches]
    losses: Outputs = {}
    for index, batch in enumerate(batches):
        is_last = index == len(batches) - 1
        with contextlib.nullcontext() if is_last else _without_reduction(task.model):
            with autocast():
                outputs = task.forward(batch)
                live = _rows(task, outputs)
                for name in task.row_outputs():
                    parts = [rows[name] for rows in cached]
                    parts[index] = live[name]
                    outputs[name] = torch.cat(parts)
                # Every pass sees the whole loss; only the last may move what is not per row (the logit scale), or
                # its gradient would be counted once a pass.
                if not is_last:
                    outputs = {k: v if k in task.row_outputs() else v.detach() for k, v in outputs.items()}
                losses = task.losses(outputs)
                total = sum_losses(losses)
            backward(total)
    return {name: value.detach() for name, value in losses.items()}


def _rows(task: Task, outputs: Outputs) -> Outputs:
    return {name: outputs[name] for name in task.row_outputs()}


@contextlib.contextmanager
def _without_reduction(model: torch.nn.Module) -> Iterator[None]:
    no_sync = getattr(model, "no_sync", None)
    with no_sync() if no_sync is not None else contextlib.nullcontext():
        yield
