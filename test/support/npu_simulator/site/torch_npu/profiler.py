"""``torch_npu.profiler``: the real one's names, schedule and folders; what it records is what torch sees of the host.

Like the real one it raises nothing but prints what went wrong, and its analysis makes fork the way in which the whole
process starts others.
"""

import enum
import functools
import multiprocessing
import os
import socket
import time

import torch

_destination = {"dir_name": None, "worker_name": None}


class ProfilerActivity(enum.Enum):
    """What to record."""

    CPU = 0
    NPU = 1


class ProfilerAction(enum.Enum):
    """What a schedule asks for at a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def supported_activities() -> set:
    """Return all there are."""
    return set(ProfilerActivity)


def _prints_errors(function):
    @functools.wraps(function)
    def guarded(*args, **options):
        try:
            return function(*args, **options)
        except Exception as error:
            print(f"[ERROR] profiler.py: Call {function.__name__} failed. Exception: {error}")
            return None

    return guarded


class schedule:  # noqa: N801 (torch_npu's spelling)
    """Say for each step what to do, in rounds of waiting, warming up and recording; 0 rounds are without end."""

    def __init__(self, wait: int, active: int, warmup: int = 0, repeat: int = 0, skip_first: int = 0) -> None:
        self.wait, self.active, self.warmup, self.repeat, self.skip_first = wait, active, warmup, repeat, skip_first
        if warmup == 0:
            print("[WARNING] profiler.py: Profiler won't be using warmup, this can skew profiler results")

    def __call__(self, step: int) -> ProfilerAction:
        step -= self.skip_first
        length = self.wait + self.warmup + self.active
        if step < 0 or (self.repeat and step >= self.repeat * length) or step % length < self.wait:
            return ProfilerAction.NONE
        if step % length < self.wait + self.warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD_AND_SAVE if step % length == length - 1 else ProfilerAction.RECORD


@_prints_errors
def tensorboard_trace_handler(
    dir_name: str | None = None, worker_name: str | None = None, analyse_flag: bool = True, async_mode: bool = False
):
    """Choose where records go; the handler makes what was recorded readable."""
    if os.path.isfile(dir_name or ""):
        raise RuntimeError(f"The path is a file: {dir_name}")
    _destination.update(dir_name=dir_name, worker_name=worker_name)

    def handle(profiler) -> None:
        if analyse_flag:
            profiler._analyse()

    return handle


class profile:  # noqa: N801 (torch_npu's spelling)
    """Record the steps that the schedule asks for; without one, all between start and stop."""

    def __init__(self, *, activities=None, schedule=None, on_trace_ready=None, **options) -> None:
        unknown = set(activities or ()) - supported_activities()
        if unknown:
            print(f"[WARNING] profiler.py: Invalid activities {unknown}, only CPU and NPU are supported")
        self._schedule = schedule or (lambda step: ProfilerAction.RECORD)
        self._on_trace_ready = on_trace_ready
        self._step, self._action = 0, ProfilerAction.NONE
        self._inner, self._folder = None, None

    @_prints_errors
    def start(self) -> None:
        """Begin the first step."""
        self._turn_to(self._schedule(0))

    @_prints_errors
    def step(self) -> None:
        """End a step and begin the next."""
        self._step += 1
        self._turn_to(self._schedule(self._step))

    @_prints_errors
    def stop(self) -> None:
        """End the record; one that the schedule has not ended is incomplete."""
        if self._inner is not None:
            print("[WARNING] profiler.py: Incorrect schedule: Stop profiler while current state is RECORD")
            self._save()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def _turn_to(self, action: ProfilerAction) -> None:
        before, self._action = self._action, action
        if before is ProfilerAction.RECORD_AND_SAVE:
            self._save()
        if action in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE) and self._inner is None:
            self._make_folder()
            self._inner = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
            self._inner.start()

    def _make_folder(self) -> None:
        worker = f"{_destination['worker_name'] or socket.gethostname()}_{os.getpid()}"
        name = f"{worker}_{time.strftime('%Y%m%d%H%M%S')}000_ascend_pt"
        self._folder = os.path.join(_destination["dir_name"] or os.getcwd(), name)
        os.makedirs(os.path.join(self._folder, "FRAMEWORK"))
        with open(os.path.join(self._folder, "profiler_info.json"), "w", encoding="utf-8") as file:
            file.write("{}")

    def _save(self) -> None:
        self._inner.stop()
        if self._on_trace_ready is not None:
            self._on_trace_ready(self)
        self._inner = None

    def _analyse(self) -> None:
        multiprocessing.set_start_method("fork", force=True)
        output = os.path.join(self._folder, "ASCEND_PROFILER_OUTPUT")
        os.makedirs(output)
        self._inner.export_chrome_trace(os.path.join(output, "trace_view.json"))
