"""Run programs of this project apart, within a limit: what crashes or hangs there ends there."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_clip.errors import printable
from training.parents import signal_when_parent_ends

_SOURCES = Path(__file__).resolve().parents[2]
_POLL_S = 0.2
_LAST_BYTES = 1 << 14
# What a job's launcher left in this shell would place a program in a run of its own.
_LAUNCHER_VARIABLES = {
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"),
    *("RANK_ID", "RANK_SIZE", "RANK_TABLE_FILE", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"),
}
# Lines that say nothing of the reason: frames of a traceback, and torchrun's own table.
_FRAME = re.compile(
    r"^\s|^Traceback|^\W*$|^={3,}|^-{3,}|\[W\d+|\[E\d+|^[EW]\d{4}|^\[\d+\]:$|^Failures:$|^Root Cause"
    r"|ChildFailedError|^[\w.]+ FAILED$"
)


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        status: Its exit status, or minus the number of the signal that ended it; None when it ran out of time.
        output: The last of what it wrote, both streams.
        limit_s: The time it had, in seconds.
    """

    status: int | None
    output: str
    limit_s: float

    def describe(self, mark: str = "") -> str:
        """Say why it did not end well, in one line: the first one that holds ``mark``, else its last words."""
        if self.status is None:
            return f"it had not ended after {self.limit_s:.0f} s"
        return f"{name_status(self.status)}{last_words(self.output, mark)}"


def name_status(status: int) -> str:
    """Name an exit status or the signal that ended a process."""
    if status >= 0:
        return f"ended with status {status}"
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-status).name}"
    return f"ended by signal {-status}"


def last_words(output: str, mark: str = "") -> str:
    """Give the line of a program's output that says most, after a colon; nothing when there is none."""
    lines = output.splitlines()
    marked = [line.partition(mark)[2] for line in lines if mark and mark in line]
    plain = [line for line in lines if not _FRAME.match(line)]
    said = marked[:1] or plain[-1:]
    return f": {printable(said[0].strip(), 300)}" if said else ""


def start_program(words: Sequence[str], **options: Any) -> Any:
    """Start this Python with arguments, in a group of its own that ends with this process and is no part of a job."""
    parent = os.getpid()
    environ = {name: value for name, value in os.environ.items() if name not in _LAUNCHER_VARIABLES}
    # Another Python finds this project wherever it starts.
    environ["PYTHONPATH"] = os.pathsep.join([str(_SOURCES), *filter(None, [environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, *words],
        env=environ,
        start_new_session=True,
        preexec_fn=lambda: signal_when_parent_ends(signal.SIGTERM, parent),
        **options,
    )


def end_program(process: Any, grace_s: float = 0.0) -> None:
    """Ask a program's group to end, wait as long as it may take, then end it for good."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
        if number == signal.SIGTERM and not grace_s:
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)


def run_program(
    words: Sequence[str],
    limit_s: float,
    *,
    grace_s: float = 0.0,
    start_s: float = 0.0,
    has_begun: Callable[[], bool] = lambda: True,
) -> Ended:
    """Run this Python with arguments until it ends or its time is over.

    Args:
        words: Arguments of the interpreter.
        limit_s: Seconds it may take; then it is asked to end, and ended after ``grace_s`` more.
        grace_s: Seconds it may take to save what it has; 0 ends it without asking.
        start_s: Seconds that it may take before that until it begins with what matters.
        has_begun: Tells whether it has.
    """
    with tempfile.TemporaryFile() as said:
        process = start_program(words, stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        is_late = False
        try:
            starts = time.monotonic() + start_s
            while not has_begun() and process.poll() is None and time.monotonic() < starts:
                time.sleep(_POLL_S)
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            is_late = True
        finally:
            end_program(process, grace_s if is_late else 0.0)
        return Ended(None if is_late else process.returncode, read_end(said), limit_s)


def read_end(file: Any) -> str:
    """Read the last of what a program wrote to a file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LAST_BYTES))
    return bytes(file.read()).decode("utf-8", "replace")
