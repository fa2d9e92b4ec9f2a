"""What tests can ask of the simulator and of no real card: which operators ran, and whether the host waited."""

from collections.abc import Iterator
from contextlib import contextmanager

import npusim_native as _native


@contextmanager
def op_census(shapes: bool = False) -> Iterator[dict[str, int]]:
    """Count the operators and the waits inside the context; the dict is filled when it closes.

    With ``shapes`` an operator counts anew for other shapes of its tensors: a card may compile each of them.
    """
    counts: dict[str, int] = {}
    _native.start_census(shapes)
    try:
        yield counts
    finally:
        counts.update(_native.stop_census())


@contextmanager
def no_sync() -> Iterator[None]:
    """Make every wait of the host for the device an error inside the context."""
    _native.forbid_sync(True)
    try:
        yield
    finally:
        _native.forbid_sync(False)
