"""Run one piece of work at a time beside the training; knows nothing of checkpoints."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Background(Generic[Result]):
    """A thread for one piece of work at a time.

    A thread is enough: the writing of a checkpoint is copying, hashing and system calls, during all of which other
    threads of Python run. It never keeps the program from leaving.
    """

    def __init__(self) -> None:
        self._running: Future[Result] | None = None

    def start(self, work: Callable[[], Result]) -> None:
        """Start a piece of work; the result of the one before must have been taken."""
        assert self._running is None
        self._running = Future()
        threading.Thread(target=_run, args=(work, self._running), name="checkpoint-writer", daemon=True).start()

    def take(self, *, wait: bool) -> Result | None:
        """Give the result once there is one, once only; None while there is none.

        Args:
            wait: Wait for work that is under way.

        Raises:
            Exception: What the work raised.
        """
        running = self._running
        if running is None or not (wait or running.done()):
            return None
        try:
            return running.result()
        finally:
            if running.done():
                self._running = None


def _run(work: Callable[[], Result], future: "Future[Result]") -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
