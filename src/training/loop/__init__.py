"""The training loop: steps, accumulation, what it counts and what it tells."""

from training.loop.guard import StepGuard
from training.loop.recorder import Recorder, SilentRecorder, StepRecord
from training.loop.state import Progress, RunningMean
from training.loop.step import Stepper, StepResult
from training.loop.trainer import Actions, Plan, Trainer

__all__ = [
    "Actions",
    "Plan",
    "Progress",
    "Recorder",
    "RunningMean",
    "SilentRecorder",
    "StepGuard",
    "StepRecord",
    "StepResult",
    "Stepper",
    "Trainer",
]
