"""Record a few steps of a run, with torch's profiler or a device's own, for a person to look at; parts have names."""

import contextlib
import logging
import os
from pathlib import Path

import torch

from open_clip.files import TEMPORARY, make_folder
from training.assembly import Place
from training.device import Device
from training.device.base import StepProfiler
from training.loop import Hook, Wants, name_phases

_LOG = logging.getLogger(__name__)
# Steps before the record: the first ones set up memory, kernels and workers.
_SETTLING_STEPS = 10
# More processes than this look alike, and every file is read by a person.
_MOST_RANKS = 8
_TABLE_ROWS = 15


class StepTrace(Hook):
    """Records ``steps`` steps once the run has settled, earlier where fewer are left.

    Args:
        steps: How many to record.
        steps_left: How many the run is going to take.
        place: Where this process computes; its run folder gets the file.
        first_step: Steps that the run has done already.
    """

    def __init__(self, steps: int, steps_left: int, place: Place, first_step: int = 0) -> None:
        self._place = place
        self._steps = min(steps, max(1, steps_left - 1))
        self._first = first_step + min(_SETTLING_STEPS, max(1, steps_left - self._steps)) + 1
        self._profiler: StepProfiler | None = None
        self._is_started = False

    def step_done(self, step: int) -> Wants:
        """Hear that a step is done; start or end the record where that is due."""
        # A run that goes back to a checkpoint takes steps again, and is recorded once.
        if step == self._first - 1 and not self._is_started:
            self._is_started = True
            self._profiler = self._make_profiler()
            name_phases(True)
            self._profiler.start()
        elif self._profiler is not None:
            is_last = step >= self._first + self._steps - 1
            if is_last:
                self._place.device.synchronize()
            self._profiler.step()
            if is_last:
                self._finish(self._profiler)
        return Wants.NOTHING

    def _make_profiler(self) -> StepProfiler:
        rank, folder, device = self._place.world.rank, self._place.folder.profile, self._place.device
        if folder is None or rank >= _MOST_RANKS:
            return _TorchProfiler(device, None)
        try:
            make_folder(folder)
            own = device.step_profiler(folder, f"rank-{rank}", self._steps)
        # A device's own profiler may refuse a folder that is a link with the second.
        except (OSError, RuntimeError) as error:
            _LOG.warning("--profile: cannot write to %s: %s", folder, error)
            return _TorchProfiler(device, None)
        name = f"rank-{rank}-steps-{self._first}-{self._first + self._steps - 1}.json.gz"
        return own or _TorchProfiler(device, folder / name)

    def _finish(self, profiler: StepProfiler) -> None:
        self._profiler = None
        try:
            _LOG.info("steps %d to %d: %s", self._first, self._first + self._steps - 1, profiler.stop())
        except (OSError, RuntimeError) as error:
            # A trace is a by-product: a full disk costs the trace, not the run.
            _LOG.warning("--profile: %s", error)
        finally:
            name_phases(False)


class _TorchProfiler:
    """torch's profiler: a table for the log, and a file where there is a path for it."""

    def __init__(self, device: Device, path: Path | None) -> None:
        self._profile = torch.profiler.profile(activities=device.profiler_activities())
        self._order = "self_cpu_time_total" if device.kind == "cpu" else "self_device_time_total"
        self._path = path

    def start(self) -> None:
        self._profile.start()

    def step(self) -> None:
        self._profile.step()

    def stop(self) -> str:
        self._profile.stop()
        said = "recorded"
        with contextlib.suppress(AttributeError):
            # An older torch has no such column for every device.
            table = self._profile.key_averages().table(self._order, row_limit=_TABLE_ROWS, max_name_column_width=48)
            said = f"what took longest:\n{table}"
        if self._path is not None:
            said += self._write(self._path)
        return said

    def _write(self, path: Path) -> str:
        draft = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
        try:
            draft.unlink(missing_ok=True)
            self._profile.export_chrome_trace(str(draft))
            draft.replace(path)
        except (OSError, RuntimeError) as error:
            _LOG.warning("--profile: cannot write %s: %s", path, error)
            return ""
        return f"\nthe trace is in {path}: open it at https://ui.perfetto.dev"
