"""Training recipes: one task a file."""

from training.tasks.base import Outputs, Task
from training.tasks.clip import ClipTask

__all__ = ["ClipTask", "Outputs", "Task"]
