"""What the signals that ask for a stop mean to the program before its run begins and once it is over; saves nothing.

While a run is under way `distributed.signals` answers them. This is the first thing that a program imports, since all
else takes long enough to be stopped in: it needs nothing but ``os`` and ``signal``.
"""

import os
import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
#: Variable that names the file where the first failing process leaves its status.
STATUS_FILE = "OPEN_CLIP_STATUS_FILE"
_STOPPED = 75  # open_clip.errors.Preempted's
_has_begun = False
_parent = 0


def answer_early_signals() -> None:
    """End the program with one line and status 75 when a signal comes before the run begins; for the program only."""
    global _parent
    _parent = os.getppid()
    for number in STOP_SIGNALS:
        signal.signal(number, _answer)


def started_by() -> int:
    """Tell which process started the program; where that was not noted in time, whose child this one is now."""
    return _parent or os.getppid()


def run_begins() -> None:
    """Hear that the run answers signals itself from now on; what comes after its end changes nothing any more."""
    global _has_begun
    _has_begun = True


def _answer(number: int, _frame: FrameType | None) -> None:
    if _has_begun:
        return
    # Between any two lines of an import: what is half imported cannot be used, and logging may not be set up.
    name = signal.Signals(number).name
    os.write(2, f"{name}: stopped before the run began; nothing was written. The same command starts it.\n".encode())
    path = os.environ.get(STATUS_FILE)
    if path:
        try:  # noqa: SIM105 (contextlib is not there yet)
            os.write(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), b"%d\n" % _STOPPED)
        except OSError:
            pass  # another process was first, or the disk is full
    os._exit(_STOPPED)
