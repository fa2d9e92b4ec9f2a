"""Which part of a run an error came from; explains no error."""

from types import TracebackType
from typing import Self

_KEY = "training_phase"


class Phase:
    """Context that notes its name on an error that passes through; the innermost name stays.

    It costs nothing while all goes well and waits for no device, so an accelerator's error carries the name of the
    phase in which the host heard of it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
