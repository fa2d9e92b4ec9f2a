"""What each process lets the others know of itself: a sign of life with its place in the run; judges nothing."""

import json
import os
import sys
import threading
from dataclasses import asdict, dataclass
from types import FrameType

# Innermost frames that are looked at to tell a wait for other processes from work.
_DEPTH = 4
_WAITING_FUNCTIONS = ("_engine_run_backward", "_record")
_WAITING_FILES = (os.path.join("torch", "distributed", ""), os.path.join("training", "loop", "guard.py"))
_OUR_FILES = (f"{os.sep}training{os.sep}", f"{os.sep}open_clip{os.sep}")


@dataclass(frozen=True)
class Pulse:
    """One sign of life.

    Attributes:
        beat: Counts up with each sign.
        host: Name of the machine.
        pid: Process number there.
        step: Optimizer steps done.
        phase: What the process is at: ``start-up``, ``data``, ``step``, ``evaluation``, ``save`` or ``end``.
        still_s: Seconds without headway.
        where: Line of code the main thread is in.
        is_waiting: Whether that line waits for other processes.
        left: Why the process is leaving; empty while it is not.
        status: The exit status it leaves with.
        follows: Whether it leaves only because of others.
    """

    beat: int = 0
    host: str = ""
    pid: int = 0
    step: int = 0
    phase: str = "start-up"
    still_s: float = 0.0
    where: str = ""
    is_waiting: bool = False
    left: str = ""
    status: int = 0
    follows: bool = False

    def name(self) -> str:
        """Say where the process is."""
        return f"{self.host}, process {self.pid}"

    def encode(self) -> str:
        """Spell it for the store."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: bytes | str) -> "Pulse":
        """Read what :meth:`encode` wrote."""
        return cls(**json.loads(text))


def main_thread_place() -> tuple[str, bool]:
    """Say which line the main thread is in, the innermost one of ours, and whether it waits for other processes."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    if not frames:
        return "", False
    is_waiting = any(
        one.f_code.co_name in _WAITING_FUNCTIONS or any(name in one.f_code.co_filename for name in _WAITING_FILES)
        for one in frames[:_DEPTH]
    )
    ours = next((one for one in frames if any(name in one.f_code.co_filename for name in _OUR_FILES)), frames[0])
    return f"{os.path.basename(ours.f_code.co_filename)}:{ours.f_lineno} ({ours.f_code.co_name})", is_waiting
