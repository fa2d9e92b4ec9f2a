"""Ask the kernel for a signal when the process that started this one ends, however it ends; Linux only."""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def signal_when_parent_ends(number: int, parent: int) -> bool:
    """Have Linux send this process a signal once the thread that started it is gone; an exec keeps that.

    Args:
        number: the signal.
        parent: number of the process that started this one; when it is gone already, the signal comes at once.

    Returns:
        Whether it will.
    """
    if sys.platform != "linux":
        return False
    try:
        is_set = bool(ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False
    if is_set and os.getppid() != parent:
        os.kill(os.getpid(), number)
    return is_set
