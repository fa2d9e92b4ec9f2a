"""Which part of a run an error came from, and the same names for a profiler's ranges; explains no error."""

from types import TracebackType
from typing import Any

import torch

_KEY = "training_phase"
_is_named = False


def name_phases(on: bool) -> None:
    """Give the profiler a range for each phase, or stop; a range costs little, and nobody reads it without one."""
    global _is_named
    _is_named = on


class Phase:
    """Context that notes its name on an error that passes through; the innermost name stays.

    It costs nothing while all goes well and waits for no device, so an accelerator's error carries the name of the
    phase in which the host heard of it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._ranges: list[Any] = []

    def __enter__(self) -> "Phase":
        if _is_named:
            opened: Any = torch.profiler.record_function(self.name)
            self._ranges.append(opened.__enter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ranges:
            self._ranges.pop().__exit__(kind, error, trace)
        if error is not None:
            error.__dict__.setdefault(_KEY, self.name)


def phase_of(error: BaseException) -> str | None:
    """Give the phase that an error or what it was raised from came out of; None when none was noted."""
    seen: BaseException | None = error
    while seen is not None:
        if _KEY in seen.__dict__:
            return str(seen.__dict__[_KEY])
        seen = seen.__cause__ or seen.__context__
    return None


FORWARD = Phase("forward")
BACKWARD = Phase("backward")
OPTIMIZER = Phase("optimizer")
DATA = Phase("data")
SAVE = Phase("save")
EVALUATION = Phase("evaluation")
