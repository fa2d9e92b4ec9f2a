"""Streams and events; order in a stream is the order of the program, since every call finishes before it returns."""

from contextlib import contextmanager

import torch

from torch_npu.npu.utils import device_index


class Stream(torch.Stream):
    """A stream of a device."""

    def __new__(cls, device=None, priority=0, **kwargs):
        if kwargs:
            return super().__new__(cls, priority=priority, **kwargs)
        return super().__new__(cls, device=torch.device("npu", device_index(device)), priority=priority)


def Event(enable_timing=False, blocking=False, interprocess=False) -> torch.Event:  # noqa: N802 (a class in the real module)
    """Make an event; torch's own class, because its methods refuse subclasses."""
    if interprocess:
        raise RuntimeError("the simulated npu has no events between processes")
    return torch.Event("npu", enable_timing=enable_timing, blocking=blocking)


def current_stream(device=None) -> torch.Stream:
    """Return the stream that work goes to."""
    return torch.accelerator.current_stream(torch.device("npu", device_index(device)))


def default_stream(device=None) -> torch.Stream:
    """Return the stream that is there from the start."""
    return Stream(stream_id=0, device_index=device_index(device), device_type=_device_type())


def set_stream(stream) -> None:
    """Send this thread's work to another stream."""
    if stream is not None:
        torch.accelerator.set_stream(stream)


@contextmanager
def stream(stream):
    """Send work to another stream inside the context."""
    if stream is None:
        yield
        return
    before = current_stream(stream.device)
    set_stream(stream)
    try:
        yield
    finally:
        set_stream(before)


def _device_type() -> int:
    return current_stream().device_type
