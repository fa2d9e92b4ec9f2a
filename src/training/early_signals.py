"""What the signals that ask for a stop mean to the program before its run begins and once it is over; saves nothing.

While a run is under way `distributed.signals` answers them. Imports no torch, which takes seconds and can be stopped.
"""

import os
import signal
from types import FrameType

from open_clip.errors import Preempted
from training.exit_status import leave_status

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_has_begun = False


def answer_early_signals() -> None:
    """End the program with one line and status 75 when a signal comes before the run begins; for the program only."""
    for number in STOP_SIGNALS:
        signal.signal(number, _answer)


def run_begins() -> None:
    """Hear that the run answers signals itself from now on; what comes after its end changes nothing any more."""
    global _has_begun
    _has_begun = True


def _answer(number: int, _frame: FrameType | None) -> None:
    if _has_begun:
        return
    # The logging of a program that has not begun may not be set up, and its locks may be held.
    name = signal.Signals(number).name
    os.write(2, f"{name}: stopped before the run began; nothing was written. The same command starts it.\n".encode())
    leave_status(Preempted.exit_status)
    os._exit(Preempted.exit_status)
