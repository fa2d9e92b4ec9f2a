"""Door: autocast under upstream's name and signature; the trainer's own precision lives in ``training.device``."""

import contextlib
from collections.abc import Callable
from functools import partial

import torch

from training.device import select_device
from training.params.precisions import PRECISIONS


def get_autocast(
    precision: str, device_type: str | None = None
) -> Callable[[], contextlib.AbstractContextManager[object]]:
    """Give what opens the forward context of a precision: amp, amp_bf16 and amp_bfloat16 cast, others do nothing.

    ``device_type`` is a kind of device, the best one of this machine when left out.
    """
    row = PRECISIONS.get(precision)
    if row is None or row.autocast is None:
        return contextlib.nullcontext
    kind = device_type or select_device("auto").kind
    # Without a type a device takes its own half precision, as upstream does for amp.
    dtype = None if row.is_scaled else getattr(torch, row.autocast)
    return partial(torch.amp.autocast, device_type=kind, dtype=dtype)
