"""Lend a task its bare model while it is evaluated: processes have different numbers of rows, so none may wait."""

import contextlib
from collections.abc import Iterator

import torch

from training.distributed import unwrap_model, whole_model
from training.evaluate.protocols import EvaluatedTask


@contextlib.contextmanager
def ready_to_measure(task: EvaluatedTask) -> Iterator[None]:
    """Give the task its bare model in evaluation mode, without gradients; every process must enter.

    A model that is spread over the processes is lent as a whole copy.
    """
    wrapped = task.model
    with whole_model(wrapped) as whole, torch.no_grad():
        bare = unwrap_model(whole)
        was_training = bare.training
        task.model = bare.eval()
        try:
            yield
        finally:
            task.model = wrapped
            bare.train(was_training)
