"""Worker processes that end with the process they work for, however it died and whatever they are blocked in."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable

from training.parents import signal_when_parent_ends

_LOOK_EVERY_S = 1.0
_forking = threading.local()


def _note_forking_thread() -> None:
    _forking.is_lasting = threading.current_thread() is threading.main_thread()


# Linux kills when the thread that forked ends, be its process alive or not: a passing thread must not count as parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_note_forking_thread)


class EndsWithParent:
    """A data loader's ``worker_init_fn``: has the worker killed once this process is gone, then does what is given.

    A worker left behind would not see that by itself: its end waits for a queue that nobody reads any more. Linux is
    asked for the kill where it can be; elsewhere a thread of the worker looks for its parent every second.

    Args:
        start: what else a worker does first, given its number.
    """

    def __init__(self, start: Callable[[int], None] = lambda number: None) -> None:
        self._start = start
        self._pid = os.getpid()

    def __call__(self, number: int) -> None:
        """Start a worker."""
        is_lasting = getattr(_forking, "is_lasting", False)
        if not (is_lasting and signal_when_parent_ends(signal.SIGKILL, self._pid)):
            threading.Thread(target=_watch, args=(self._pid,), name="orphan", daemon=True).start()
        self._start(number)


def _is_orphan(pid: int) -> bool:
    # Where a server forks workers it is their parent, and a pipe tells of the real one; siblings hold pipes open.
    if multiprocessing.get_start_method() == "fork":
        return os.getppid() != pid
    parent = multiprocessing.parent_process()
    return parent is None or not parent.is_alive()


def _watch(pid: int) -> None:
    while not _is_orphan(pid):
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)
