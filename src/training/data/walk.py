"""One walk over the tensors of a batch, at any depth of tuples, lists, mappings and dataclass values.

Moving, pinning, listing and packing all go this way, so a tensor may stand wherever a recipe puts it. A value that has
a ``to`` or a ``pin_memory`` of its own (texts with their plan) knows which of its parts stay on the host: it is asked,
and not walked through.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")
_Change = Callable[[object], object]


def rebuild(value: T, change: _Change) -> T:
    """Return a container of the same kind with what ``change`` makes of each of its parts; anything else as it is.

    Named tuples and dataclass values keep their class; a dataclass value is copied, so no check of its own runs again.
    A mapping becomes a dict.
    """
    maker = _maker(cast(type, type(value)))
    return value if maker is None else cast(T, maker(value, change))


def move(value: T, device: torch.device | str, non_blocking: bool = True) -> T:
    """Return the value with its tensors on a device."""
    own = getattr(value, "to", None)
    if own is not None:
        return cast(T, own(device, non_blocking=non_blocking))
    return rebuild(value, lambda part: move(part, device, non_blocking))


def pin(value: T) -> T:
    """Return the value with its tensors in pinned memory."""
    own = getattr(value, "pin_memory", None)
    if own is not None:
        return cast(T, own())
    change: _Change = pin
    return rebuild(value, change)


def tensors_in(value: object) -> Iterator[Tensor]:
    """Give every tensor that a value holds, those that stay on the host too."""
    if isinstance(value, Tensor):
        yield value
        return
    parts: list[object] = []

    def note(part: object) -> object:
        parts.append(part)
        return part

    rebuild(value, note)
    for part in parts:
        yield from tensors_in(part)


@cache
def _maker(kind: type) -> Callable[..., object] | None:
    """Return what rebuilds values of a class; None for no container.

    Kept by class: a batch has hundreds of words and numbers, and asking each of them what it is costs more than packing
    the tensors.
    """
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return lambda value, change: kind(*map(change, value))
    if issubclass(kind, tuple | list):
        return lambda value, change: kind(map(change, value))
    if issubclass(kind, Mapping):
        return lambda value, change: {key: change(part) for key, part in value.items()}
    return _copy_dataclass if is_dataclass(kind) else None


def _copy_dataclass(value: object, change: _Change) -> object:
    made = copy.copy(value)
    for field in fields(value):  # type: ignore[arg-type]
        # A frozen class refuses assignment, but nobody else holds this copy yet.
        object.__setattr__(made, field.name, change(getattr(value, field.name)))
    return made
