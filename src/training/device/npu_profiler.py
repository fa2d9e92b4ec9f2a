"""Record steps with torch_npu's own profiler, in the folder that MindStudio Insight opens.

torch's profiler sees kernels of the card through a plug-in that came with torch_npu 2.14; this one is in all of them.
"""

import importlib
import multiprocessing
import os
from pathlib import Path
from typing import Any

_ANALYSE = "from torch_npu.profiler.profiler import analyse; analyse"


class NpuStepProfiler:
    """Records the next ``steps`` steps of host and card.

    Args:
        folder: Where torch_npu makes a folder of the record, ``NAME_PID_TIME_ascend_pt``.
        name: How that begins.
        steps: How many steps to record; what was recorded is written as the last one ends.
    """

    def __init__(self, folder: Path, name: str, steps: int) -> None:
        self._folder, self._name = folder, name
        package = importlib.import_module("torch_npu.profiler")
        self._analyse = package.tensorboard_trace_handler(str(folder), worker_name=name)
        self._profile = package.profile(
            activities=[package.ProfilerActivity.CPU, package.ProfilerActivity.NPU],
            schedule=package.schedule(wait=0, warmup=0, active=steps, repeat=1),
            on_trace_ready=self._write,
        )

    def start(self) -> None:
        """Begin with the step that comes."""
        self._profile.start()

    def step(self) -> None:
        """Hear that a step is done."""
        self._profile.step()

    def stop(self) -> str:
        """End the record and say where it lies and what opens it.

        Raises:
            OSError: Nothing was written, or only what the card gave: torch_npu prints why and raises nothing.
        """
        self._profile.stop()
        # An earlier start of the run may have left one too.
        written = next(self._folder.glob(f"{self._name}_{os.getpid()}_*_ascend_pt"), None)
        if written is None:
            raise FileNotFoundError(f"torch_npu wrote no record to {self._folder}; what it printed says why")
        readable = written / "ASCEND_PROFILER_OUTPUT"
        if not readable.is_dir():
            command = f'python -c "{_ANALYSE}({str(written)!r})"'
            raise FileNotFoundError(f"the record in {written} was not made readable; where CANN is, run {command}")
        return f"the trace is in {written}: open it with MindStudio Insight, or its trace_view.json with Perfetto"

    def _write(self, recorded: Any) -> None:
        """Let torch_npu make its files, and undo that it sets how this process starts others."""
        method = multiprocessing.get_start_method(allow_none=True)
        try:
            self._analyse(recorded)
        finally:
            multiprocessing.set_start_method(method, force=True)
