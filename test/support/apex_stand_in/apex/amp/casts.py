"""O1: functions of torch that cast what they are given, and fp16 copies of weights that outlive a forward pass."""

from contextlib import contextmanager
from functools import wraps

import torch
import torch.nn.functional as F

_TO_HALF = ((F, "linear"), (F, "conv2d"), (torch, "matmul"), (torch.Tensor, "__matmul__"), (torch.Tensor, "matmul"))
_TO_FLOAT = (
    (F, "layer_norm"),
    (F, "normalize"),
    (F, "softmax"),
    (F, "log_softmax"),
    (F, "cross_entropy"),
    (torch, "sum"),
    (torch.Tensor, "sum"),
    (torch.Tensor, "norm"),
    (torch.Tensor, "exp"),
)


class Casts:
    """Patches torch for as long as it is active."""

    def __init__(self):
        self._active = True
        self._copies = {}
        self._all_wrappers = []
        for dtype, places in ((torch.float16, _TO_HALF), (torch.float32, _TO_FLOAT)):
            for owner, name in places:
                original = getattr(owner, name)
                self._all_wrappers.append((owner, name, original))
                setattr(owner, name, self._casting(original, dtype))

    def clear(self):
        """Forget the copies of weights."""
        self._copies.clear()

    @contextmanager
    def off(self):
        """Cast nothing for a while."""
        self._active = False
        yield
        self._active = True

    def _casting(self, original, dtype):
        @wraps(original)
        def wrapper(*inputs, **options):
            if not self._active:
                return original(*inputs, **options)
            inputs = [self._cast(value, dtype) for value in inputs]
            return original(*inputs, **{name: self._cast(value, dtype) for name, value in options.items()})

        return wrapper

    def _cast(self, value, dtype):
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        if dtype != torch.float16 or not isinstance(value, torch.nn.Parameter):
            return value.to(dtype)
        copy = self._copies.get(value)
        if copy is None or (torch.is_grad_enabled() and value.requires_grad):
            copy = self._copies[value] = value.to(dtype)
        return copy


def cast(value, dtype):
    """Cast what a model is given or gives, as O2 does: whatever has ``to`` casts itself, an iterable is made anew."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, str):
        return value
    if hasattr(value, "to"):
        return value.to(dtype)
    if isinstance(value, dict):
        return {name: cast(item, dtype) for name, item in value.items()}
    if hasattr(value, "__iter__"):
        return type(value)(cast(item, dtype) for item in value)
    return value
