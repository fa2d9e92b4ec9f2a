"""Copies to a device beside its own work; which device has streams, and by what names, is its own file's answer."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch


class CopyStream:
    """A stream of its own for copies from pinned memory, so that they run while the device computes.

    Args:
        stream: The stream.
        make_event: Makes an event of the device.
        use: Opens the context in which work goes to a stream.
        current: Gives the stream that work goes to.
    """

    def __init__(
        self,
        stream: Any,
        *,
        make_event: Callable[[], Any],
        use: Callable[[Any], AbstractContextManager[object]],
        current: Callable[[], Any],
    ) -> None:
        self._stream = stream
        self._make_event = make_event
        self._use = use
        self._current = current

    @contextmanager
    def copying(self) -> Iterator[Any]:
        """Send what is begun inside to the stream; gives the event that says when all of it has arrived."""
        arrived = self._make_event()
        with self._use(self._stream):
            yield arrived
        arrived.record(self._stream)

    def hand_over(self, tensors: Iterable[torch.Tensor], arrived: Any) -> None:
        """Let the present stream work with tensors that were made on this one.

        The device waits, not the host, and only for these copies: later ones go on beside the work.
        """
        current = self._current()
        arrived.wait(current)
        for tensor in tensors:
            # Their memory was taken on this stream, which would give it to a later copy as soon as the host lets go.
            tensor.record_stream(current)
