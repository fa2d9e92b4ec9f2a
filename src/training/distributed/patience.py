"""Wait for other processes inside calls that no signal ends, and still answer signals and see the launcher end."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from open_clip.errors import Preempted
from training.distributed.env import World
from training.early_signals import started_by

_T = TypeVar("_T")
_LOOK_EVERY_S = 0.5


def wait_for_others(meet: Callable[[], _T], world: World) -> _T:
    """Call what waits for other processes from a thread of its own: only Python's main thread answers signals.

    Raises:
        Preempted: torchrun, which started this process, is gone; the store that it served will never answer.
    """
    outcome: Future[_T] = Future()
    # Not joined when the program ends: what it waits for may never come.
    threading.Thread(target=_settle, args=(outcome, meet), name="meeting", daemon=True).start()
    while wait([outcome], timeout=_LOOK_EVERY_S).not_done:
        if world.launcher == "torchrun" and os.getppid() != started_by():
            raise Preempted(f"torchrun is gone before rank {world.rank} could join the others; nothing was written.")
    return outcome.result()


def _settle(outcome: Future[_T], meet: Callable[[], _T]) -> None:
    try:
        outcome.set_result(meet())
    except BaseException as error:  # noqa: BLE001 (it is the caller's)
        outcome.set_exception(error)
