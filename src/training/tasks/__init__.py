"""Training recipes: one task a file."""

from training.tasks.base import Outputs, Setup, Task
from training.tasks.clip import ClipTask
from training.tasks.coca import CoCaTask
from training.tasks.distill import DistillTask
from training.tasks.siglip import SigLipTask

__all__ = ["ClipTask", "CoCaTask", "DistillTask", "Outputs", "Setup", "SigLipTask", "Task"]
