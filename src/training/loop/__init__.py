"""The training loop: steps, accumulation, what it counts and what it tells."""

from training.loop.guard import StepGuard, Verdict
from training.loop.phases import EVALUATION, Phase, name_phases, phase_of
from training.loop.prefetch import Prefetcher
from training.loop.recorder import Recorder, SilentRecorder, StepRecord
from training.loop.recovery import Recovery, RollBackNeeded, StepPlace
from training.loop.state import Progress, RunningMean
from training.loop.step import Stepper, StepResult
from training.loop.trainer import Actions, Plan, Trainer

__all__ = [
    "EVALUATION",
    "Actions",
    "Phase",
    "Plan",
    "Prefetcher",
    "Progress",
    "Recorder",
    "Recovery",
    "RollBackNeeded",
    "RunningMean",
    "SilentRecorder",
    "StepGuard",
    "StepPlace",
    "StepRecord",
    "StepResult",
    "Stepper",
    "Trainer",
    "Verdict",
    "name_phases",
    "phase_of",
]
