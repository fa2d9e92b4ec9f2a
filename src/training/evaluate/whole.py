"""Lend a task a whole model while it is evaluated: processes have different numbers of rows, so none may wait."""

import contextlib
from collections.abc import Iterator

from training.distributed import whole_model
from training.tasks import Task


@contextlib.contextmanager
def on_whole_model(task: Task) -> Iterator[None]:
    """Give the task a whole copy of a model that is spread over the processes; every process must enter."""
    spread = task.model
    with whole_model(spread) as whole:
        task.model = whole
        try:
            yield
        finally:
            task.model = spread
