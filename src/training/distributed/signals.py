"""Turn SIGINT, SIGTERM and SIGUSR1 into a request to stop at a step's end; runs no collective and saves nothing."""

import logging
import os
import signal
import time
from types import FrameType, TracebackType

from training.early_signals import STOP_SIGNALS
from training.exit_status import leave_status

_LOG = logging.getLogger(__name__)


class StopRequest:
    """Context in which a signal asks for an orderly stop, and only Ctrl-C a second time ends the process at once.

    Launchers and schedulers repeat SIGTERM while a step or a save takes long: a repeated signal is the same request.
    Ctrl-C under torchrun reaches a process twice, from the terminal and from torchrun: what comes within ``echo_s``
    seconds of the first SIGINT is the same Ctrl-C.

    Attributes:
        signal_name: Name of the signal, or the other reason, that asked; None while nothing did.
    """

    def __init__(self, echo_s: float = 3.0) -> None:
        self.signal_name: str | None = None
        self._echo_s = echo_s
        self._interrupted_at: float | None = None
        self._pid = os.getpid()
        self._previous: dict[signal.Signals, object] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal_name is not None

    def ask(self, reason: str) -> None:
        """Ask for an orderly stop without a signal."""
        if self.signal_name is None:
            self.signal_name = reason

    def __enter__(self) -> "StopRequest":
        for number in STOP_SIGNALS:
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
        if number == signal.SIGINT and self._is_second_interrupt():
            _LOG.warning("%s again: leaving without saving.", name)
            leave_status(128 + number)
            os._exit(128 + number)
        if self.signal_name is None:
            self.signal_name = name
            _LOG.warning("%s: stopping after this step; Ctrl-C after that ends the run without saving.", name)

    def _is_second_interrupt(self) -> bool:
        """Note a SIGINT, and tell whether it is not the first one nor its echo."""
        now = time.monotonic()
        if self._interrupted_at is None:
            self._interrupted_at = now
            return False
        return now - self._interrupted_at >= self._echo_s
