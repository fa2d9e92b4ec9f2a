"""The training loop: steps, accumulation, what it counts and what it tells."""

from training.loop.feed import Feed
from training.loop.guard import StepGuard
from training.loop.hooks import Hook, Hooks, Moment, Wants
from training.loop.phases import EVALUATION, name_phases, phase_of
from training.loop.prefetch import Prefetcher
from training.loop.recorder import Recorder, StepRecord
from training.loop.recovery import Recovery
from training.loop.state import Progress, RunningMean
from training.loop.step import Stepper
from training.loop.trainer import Plan, Trainer

__all__ = [
    "EVALUATION",
    "Feed",
    "Hook",
    "Hooks",
    "Moment",
    "Plan",
    "Prefetcher",
    "Progress",
    "Recorder",
    "Recovery",
    "RunningMean",
    "StepGuard",
    "StepRecord",
    "Stepper",
    "Trainer",
    "Wants",
    "name_phases",
    "phase_of",
]
