"""Record a few steps of a run with torch's profiler, for a person to look at; the parts of a step are named in it."""

import contextlib
import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import torch

from open_clip.files import TEMPORARY, make_folder
from training.build import Place
from training.loop import Actions, name_phases
from training.params import ReportParams

_LOG = logging.getLogger(__name__)
# Steps before the record: the first ones set up memory, kernels and workers.
_SETTLING_STEPS = 10
# More processes than this look alike, and every file is read by a person.
_MOST_RANKS = 8
_TABLE_ROWS = 15


class StepTrace:
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
        self._profiler: Any = None
        self._is_started = False

    def step_done(self, step: int) -> None:
        """Hear that a step is done; start or end the record where that is due."""
        # A run that goes back to a checkpoint takes steps again, and is recorded once.
        if step == self._first - 1 and not self._is_started:
            self._is_started = True
            self._profiler = torch.profiler.profile(activities=self._place.device.profiler_activities())
            name_phases(True)
            self._profiler.start()
        elif self._profiler is not None:
            self._profiler.step()
            if step >= self._first + self._steps - 1:
                self._finish(step)

    def _finish(self, step: int) -> None:
        profiler, self._profiler = self._profiler, None
        self._place.device.synchronize()
        profiler.stop()
        name_phases(False)
        path = self._write(profiler, step)
        order = "self_cpu_time_total" if self._place.device.kind == "cpu" else "self_device_time_total"
        with contextlib.suppress(AttributeError):
            # An older torch has no such column for every device.
            table = profiler.key_averages().table(sort_by=order, row_limit=_TABLE_ROWS, max_name_column_width=48)
            _LOG.info("steps %d to %d, what took longest:\n%s", self._first, step, table)
        if path is not None:
            _LOG.info("the trace is in %s: open it at https://ui.perfetto.dev", path)

    def _write(self, profiler: Any, step: int) -> Path | None:
        rank, folder = self._place.world.rank, self._place.folder.profile
        if folder is None or rank >= _MOST_RANKS:
            return None
        path = folder / f"rank-{rank}-steps-{self._first}-{step}.json.gz"
        draft = folder / f"{TEMPORARY}{os.getpid()}-{path.name}"
        try:
            make_folder(folder)
            draft.unlink(missing_ok=True)
            profiler.export_chrome_trace(str(draft))
            draft.replace(path)
        except (OSError, RuntimeError) as error:
            # A trace is a by-product: a full disk costs the trace, not the run.
            _LOG.warning("--profile: cannot write %s: %s", path, error)
            return None
        return path


def traced(actions: Actions, report: ReportParams, place: Place, steps_left: int, first_step: int) -> Actions:
    """Let a record be made of what the loop does, where ``--profile`` asks for one."""
    if not report.profile:
        return actions
    trace = StepTrace(report.profile_steps, steps_left, place, first_step)

    def after_step(step: int) -> bool:
        trace.step_done(step)
        return actions.after_step(step)

    return dataclasses.replace(actions, after_step=after_step)
