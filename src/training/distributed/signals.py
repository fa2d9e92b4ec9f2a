"""Turn SIGINT, SIGTERM and SIGUSR1 into a request to stop at a step's end; runs no collective and saves nothing."""

import logging
import os
import signal
import time
from types import FrameType, TracebackType
from typing import Self

_LOG = logging.getLogger(__name__)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Context in which the first signal asks for an orderly stop and a later one ends the process at once.

    Ctrl-C under torchrun reaches a process twice, from the terminal and from torchrun: what comes within ``echo_s``
    seconds of the first signal is the same request.

    Attributes:
        signal_name: Name of the signal, or the other reason, that asked; None while nothing did.
    """

    def __init__(self, echo_s: float = 3.0) -> None:
        self.signal_name: str | None = None
        self._echo_s = echo_s
        self._asked_at = 0.0
        self._pid = os.getpid()
        self._previous: dict[signal.Signals, object] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal_name is not None

    def ask(self, reason: str) -> None:
        """Ask for an orderly stop without a signal."""
        if self.signal_name is None:
            self.signal_name, self._asked_at = reason, time.monotonic()

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if os.getpid() != self._pid:
            # A forked loader worker inherited this handler: it has nothing to save.
            os._exit(128 + number)
        if self.signal_name is None:
            self.signal_name, self._asked_at = name, time.monotonic()
            _LOG.warning("%s: stopping after this step; a second signal ends the run at once.", name)
            return
        if time.monotonic() - self._asked_at < self._echo_s:
            return
        _LOG.warning("%s again: leaving without saving.", name)
        os._exit(128 + number)
