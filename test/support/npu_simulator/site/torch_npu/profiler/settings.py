"""What a record may be asked for: the real names, with what all wheels from 2.6 on take."""

import functools
import os
from enum import Enum


class ProfilerActivity(Enum):
    """What is recorded."""

    CPU = 0
    NPU = 1


class ProfilerAction(Enum):
    """What is done in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


class ProfilerLevel:
    """How much of the device is recorded."""

    Level0, Level1, Level2, Level_none = "Level0", "Level1", "Level2", "Level_none"


class AiCMetrics:
    """Which counters of the cores are read."""

    PipeUtilization, AiCoreNone = "ACL_AICORE_PIPE_UTILIZATION", "ACL_AICORE_NONE"


class ExportType:
    """In which form the analysis is written."""

    Db, Text = "db", "text"


class _ExperimentalConfig:
    def __init__(
        self,
        profiler_level=ProfilerLevel.Level0,
        aic_metrics=AiCMetrics.PipeUtilization,
        l2_cache=False,
        msprof_tx=False,
        data_simplification=True,
        record_op_args=False,
        op_attr=False,
        gc_detect_threshold=None,
        export_type=ExportType.Text,
    ):
        # The arguments that all wheels from 2.6 on take.
        self._profiler_level, self._aic_metrics = profiler_level, aic_metrics
        self._export_type = [export_type] if isinstance(export_type, str) else list(export_type)


def warn(message):
    print(f"[WARNING] [{os.getpid()}] profiler.py: {message}")


def without_raising(function):
    """Turn errors into a printed line, as the real one does: a record never ends a run."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except Exception as error:
            print(f"[ERROR] [{os.getpid()}] profiler.py: Failed to call function: {function.__name__}, {error}")
            return None

    return wrapped


class schedule:  # noqa: N801 (the real name)
    """Which step is recorded: wait, warm up, record, and again."""

    def __init__(self, wait, active, warmup=0, repeat=0, skip_first=0):
        self.wait, self.active, self.warmup = wait, active, warmup
        self.repeat, self.skip_first = repeat, skip_first
        if warmup == 0:
            warn("Profiler won't be using warmup, this can skew profiler results")

    def __call__(self, step):
        """Return the action of a step, counted from 0."""
        cycle = self.wait + self.warmup + self.active
        step -= self.skip_first
        if step < 0 or (self.repeat > 0 and step / cycle >= self.repeat) or step % cycle < self.wait:
            return ProfilerAction.NONE
        if step % cycle < self.wait + self.warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if step % cycle < cycle - 1 else ProfilerAction.RECORD_AND_SAVE


def supported_activities():
    """Return all of them."""
    return set(ProfilerActivity)
