"""Training recipes: one task a file."""

from training.tasks.base import Outputs, Task
from training.tasks.clip import ClipTask
from training.tasks.coca import CoCaTask
from training.tasks.distill import DistillTask
from training.tasks.siglip import SIGLIP_START, SigLipTask

__all__ = ["SIGLIP_START", "ClipTask", "CoCaTask", "DistillTask", "Outputs", "SigLipTask", "Task"]
