"""One number or several: the small functions that programs import from ``open_clip.utils``. Imports nothing of ours."""

from collections.abc import Iterable
from itertools import repeat
from typing import Any


def to_ntuple(n: int, x: Any) -> Any:
    """Repeat ``x`` ``n`` times in a tuple; anything iterable is returned as it is."""
    return x if isinstance(x, Iterable) else tuple(repeat(x, n))


def to_1tuple(x: Any) -> Any:
    """Put ``x`` into a tuple of one unless it is iterable."""
    return to_ntuple(1, x)


def to_2tuple(x: Any) -> Any:
    """Put ``x`` into a pair unless it is iterable."""
    return to_ntuple(2, x)


def to_3tuple(x: Any) -> Any:
    """Put ``x`` into a tuple of three unless it is iterable."""
    return to_ntuple(3, x)


def to_4tuple(x: Any) -> Any:
    """Put ``x`` into a tuple of four unless it is iterable."""
    return to_ntuple(4, x)
