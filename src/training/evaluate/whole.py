"""Lend a task its bare model while it is evaluated: processes have different numbers of rows, so none may wait."""

import contextlib
from collections.abc import Iterator

import torch

from training.distributed import unwrap_model, whole_model
from training.evaluate.protocols import EvaluatedTask


@contextlib.contextmanager
def ready_to_measure(task: EvaluatedTask) -> Iterator[None]:
    """Give the task its bare model, in evaluation mode as its own parameters, without gradients; every process enters.

    A model that is spread over the processes is lent as a whole copy.
    """
    wrapped = task.model
    with whole_model(wrapped) as whole, torch.no_grad():
        bare = unwrap_model(whole)
        modules = [bare] if task.own is None else [bare, task.own]
        were_training = [module.training for module in modules]
        task.model = bare
        for module in modules:
            module.eval()
        try:
            yield
        finally:
            task.model = wrapped
            for module, was_training in zip(modules, were_training, strict=True):
                module.train(was_training)
