"""Gradient of one large batch from several small forward passes.

A contrastive loss couples all rows, so summing the losses of small batches is another objective. Instead all features
are computed once without gradient, then each small batch is run again with gradient among the cached rest (GradCache,
arXiv 2101.06983). The weights' gradients equal those of the large batch. Losses that are sums over rows (captions) are
added up batch by batch and need no cache.

That holds only where both passes of a batch give the same features. So the second one draws what the first drew (patch
dropout, drop path, dropout), and what a layer counts along (the running statistics of batch norms) moves in the first
alone. Batch norms still see one small batch at a time: with them no cut into batches equals the large one.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch

from training.data import Batch
from training.device import Device, remember_rng
from training.loop.statistics import RunningStatistics
from training.tasks import Outputs, Task

Backward = Callable[[torch.Tensor, bool], None]
Autocast = Callable[[], contextlib.AbstractContextManager[None]]


def backward_batches(
    task: Task,
    batches: Sequence[Batch],
    autocast: Autocast,
    backward: Backward,
    device: Device,
    statistics: RunningStatistics,
) -> Outputs:
    """Put the gradient of one optimizer step into the parameters.

    Args:
        task: The recipe; its model may be wrapped for several processes.
        batches: Prepared batches on the device; together they are one optimizer step.
        autocast: Opens the precision's forward context.
        backward: Runs the (scaled) backward pass of a loss; hears whether it is the step's last.
        device: Where the model computes; knows its random generator.
        statistics: Those of all that the task trains.

    Returns:
        The step's named losses, detached.
    """
    totals = task.step_totals(batches)
    with torch.no_grad(), autocast():
        fixed = [totals | task.fixed_outputs(batch) for batch in batches]
        cached, put_back = [], []
        # One batch is the whole step already, and losses that couple no rows need nothing of the others.
        if len(batches) > 1 and task.row_outputs():
            for known, batch in zip(fixed, batches, strict=True):
                put_back.append(remember_rng(device))
                cached.append(known | task.encode_rows(batch))
    summed: Outputs = {}
    for index, batch in enumerate(batches):
        is_last = index == len(batches) - 1
        # The last batch leaves the generators where its first pass did, or beyond: no draw is used twice later.
        with contextlib.ExitStack() as around:
            if not is_last:
                around.enter_context(_without_reduction(task.model))
            if cached:
                put_back[index]()
                around.enter_context(statistics.held())
            with autocast():
                outputs = fixed[index] | task.forward(batch)
                own = task.row_losses(outputs)
                with contextlib.nullcontext() if is_last or not cached else _held_still(task.own):
                    joint = task.joint_losses(_join(task, outputs, cached, index, is_last) if cached else outputs)
                alone = task.parameter_losses() if is_last else {}
            losses = joint | own | alone
            if losses:
                backward(sum_losses(losses), is_last)
        for name, value in own.items():
            summed[name] = summed[name] + value.detach() if name in summed else value.detach()
    return {name: value.detach() for name, value in (joint | alone).items()} | summed


def sum_losses(losses: Outputs) -> torch.Tensor:
    """Add up named losses."""
    return torch.stack([value.float() for value in losses.values()]).sum()


def _join(task: Task, outputs: Outputs, cached: Sequence[Outputs], index: int, is_last: bool) -> Outputs:
    """Put one batch's live rows among the cached rows of the others.

    Every pass sees the whole loss; only the last may move what is not per row (the logit scale), or its gradient would
    be counted once a pass.
    """
    rows = task.row_outputs()
    joined = {name: value if is_last else value.detach() for name, value in outputs.items() if name not in rows}
    for name in rows:
        parts = [batch[name] for batch in cached]
        parts[index] = outputs[name]
        joined[name] = torch.cat(parts)
    return joined


@contextlib.contextmanager
def _held_still(own: torch.nn.Module | None) -> Iterator[None]:
    """Let joint losses give a recipe's own parameters no gradient: they see all rows in every pass, and one counts."""
    learning = [parameter for parameter in (() if own is None else own.parameters()) if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _without_reduction(model: torch.nn.Module) -> Iterator[None]:
    no_sync = getattr(model, "no_sync", None)
    with no_sync() if no_sync is not None else contextlib.nullcontext():
        yield
