"""Recording steps, and the folder that a record leaves."""

import csv
import json
import multiprocessing
import os
import shutil
import socket
import time
from datetime import datetime
from pathlib import Path

import torch

from torch_npu.npu.utils import get_cann_version
from torch_npu.profiler.settings import (
    ProfilerAction,
    ProfilerActivity,
    _ExperimentalConfig,
    supported_activities,
    warn,
    without_raising,
)
from torch_npu.version import __version__

_OUTPUT = "ASCEND_PROFILER_OUTPUT"
_OPERATOR_COLUMNS = (
    "Name",
    "Input Shapes",
    "Call Stack",
    "Host Self Duration(us)",
    "Host Total Duration(us)",
    "Device Self Duration(us)",
    "Device Total Duration(us)",
    "Device Self Duration With AICore(us)",
    "Device Total Duration With AICore(us)",
)
_KERNEL_COLUMNS = ("Step Id", "Name", "Type", "Accelerator Core", "Start Time(us)", "Duration(us)")
_place: dict[str, str | None] = {"dir": None, "worker": None}


@without_raising
def tensorboard_trace_handler(dir_name=None, worker_name=None, analyse_flag=True, async_mode=False):
    """Return what analyses a record; the folder is chosen here, before the record begins."""
    _place.update(dir=dir_name, worker=worker_name)
    return lambda record: record.analyse() if analyse_flag else None


class profile:  # noqa: N801 (the real name)
    """Record steps into ``<worker>_<pid>_<time>_ascend_pt/``."""

    def __init__(
        self,
        *,
        activities=None,
        schedule=None,
        on_trace_ready=None,
        record_shapes=False,
        profile_memory=False,
        with_stack=False,
        with_flops=False,
        with_modules=False,
        experimental_config=None,
        use_cuda=None,
    ):
        self._activities = set(activities) if activities else supported_activities()
        if not self._activities <= supported_activities():
            raise TypeError(f"activities must be of torch_npu.profiler.ProfilerActivity, not {activities}")
        self._schedule = schedule or (lambda step: ProfilerAction.RECORD)
        self._on_trace_ready = on_trace_ready
        self._shapes = record_shapes
        self._config = experimental_config or _ExperimentalConfig()
        self.step_num, self.current_action = 0, self._schedule(0)
        self._folder = self._torch = None
        self.stopped = False

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *failure):
        self.stop()

    @without_raising
    def start(self):
        """Begin."""
        self._change(ProfilerAction.NONE, self.current_action)

    @without_raising
    def step(self):
        """End a step and begin the next."""
        if self.stopped:
            warn("Profiler is stopped, step takes no effect!")
            return
        before, self.step_num = self.current_action, self.step_num + 1
        self.current_action = self._schedule(self.step_num)
        self._change(before, self.current_action)

    @without_raising
    def stop(self):
        """End; a record that is under way is kept, with a warning."""
        if self.current_action is ProfilerAction.RECORD:
            warn("Incorrect schedule: Stop profiler while current state is RECORD which may result in incomplete data.")
        elif self.current_action is ProfilerAction.RECORD_AND_SAVE:
            warn("Stop profiler while current state is RECORD_AND_SAVE, perhaps the cycle has not yet completed.")
        elif self.current_action is ProfilerAction.WARMUP:
            warn("Incorrect schedule: Stop profiler while current state is WARMUP: nothing is recorded.")
        self._change(self.current_action, None)
        self.stopped = True

    def _change(self, before, after):
        recording = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
        if before is ProfilerAction.RECORD_AND_SAVE or (before is ProfilerAction.RECORD and after not in recording):
            self._end(tells=before is ProfilerAction.RECORD_AND_SAVE or after is None)
        if after in (ProfilerAction.WARMUP, *recording) and self._folder is None:
            self._folder = _make_folder()
        if after in recording and self._torch is None:
            kinds = [torch.profiler.ProfilerActivity.CPU]
            self._torch = torch.profiler.profile(activities=kinds, record_shapes=self._shapes)
            self._torch.start()
        if after is None and self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def _end(self, tells):
        if ProfilerActivity.NPU in self._activities:
            torch.npu.synchronize()
        self._torch.stop()
        rank = os.environ.get("RANK")
        config = {"activities": sorted(map(str, self._activities)), "record_shapes": self._shapes}
        info = {
            "config": {"common_config": config, "experimental_config": vars(self._config)},
            "end_info": {"collectionTimeEnd": time.time_ns(), "MonotonicTimeEnd": time.monotonic_ns()},
            "torch_npu_version": __version__,
            "cann_version": get_cann_version(),
            **({} if rank is None else {"rank_id": rank}),
        }
        name = "profiler_info.json" if rank is None else f"profiler_info_{rank}.json"
        (self._folder / name).write_text(json.dumps(info, indent=4))
        (self._folder / "profiler_metadata.json").write_text("{}")
        (self._folder / "FRAMEWORK").mkdir()
        if tells and self._on_trace_ready is not None:
            self._on_trace_ready(self)
        self._folder = self._torch = None

    def analyse(self):
        """Write what MindStudio Insight opens."""
        # The real one leaves this process so.
        multiprocessing.set_start_method("fork", force=True)
        output = self._folder / _OUTPUT
        output.mkdir()
        trace = output / "trace_view.json"
        self._torch.export_chrome_trace(str(trace))
        # The real file is the bare list.
        trace.write_text(json.dumps(json.loads(trace.read_text())["traceEvents"]))
        events = [event for event in self._torch.events() if event.name.startswith("aten::")]
        operators, kernels = [], []
        for event in events:
            own = round(event.self_cpu_time_total, 3)
            whole = round(event.cpu_time_total, 3)
            operators.append([event.name, event.input_shapes or "", "", own, whole, own, whole, own, whole])
            kernels.append([0, event.name.removeprefix("aten::"), "aten", "AI_CORE", event.time_range.start, own])
        _write_table(output / "operator_details.csv", _OPERATOR_COLUMNS, operators)
        if ProfilerActivity.NPU in self._activities:
            _write_table(output / "kernel_details.csv", _KERNEL_COLUMNS, kernels)


def _make_folder():
    parent = Path(_place["dir"] or os.environ.get("ASCEND_WORK_PATH") or Path.cwd())
    moment = datetime.now().strftime("%Y%m%d%H%M%S%f")[:-3]
    folder = parent / f"{_place['worker'] or socket.gethostname()}_{os.getpid()}_{moment}_ascend_pt"
    folder.mkdir(parents=True)
    return folder


def _write_table(path, columns, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
