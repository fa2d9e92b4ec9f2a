"""One number or several: the sizes of images, and the small functions that programs import from ``open_clip.utils``."""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from open_clip.errors import ConfigError

Size = int | Sequence[int]


def to_ntuple(n: int, x: Any) -> Any:
    """Repeat ``x`` ``n`` times in a tuple; anything iterable is returned as it is."""
    return x if isinstance(x, Iterable) else tuple(repeat(x, n))


to_1tuple = partial(to_ntuple, 1)
to_2tuple = partial(to_ntuple, 2)
to_3tuple = partial(to_ntuple, 3)
to_4tuple = partial(to_ntuple, 4)


def to_pair(size: Size) -> tuple[int, int]:
    """Return a size as (height, width); one number means both.

    Raises:
        ConfigError: The size is neither one nor two numbers.
    """
    pair = (size, size) if isinstance(size, int) else tuple(size) * (2 if len(size) == 1 else 1)
    if len(pair) != 2 or any(int(side) < 1 for side in pair):
        raise ConfigError(f"Image size {size!r} is not a size: give one number, or height and width, in pixels.")
    return int(pair[0]), int(pair[1])
