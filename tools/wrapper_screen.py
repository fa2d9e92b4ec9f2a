"""Decide which of the trainer's lines a person needs to see; the log file has them all.

Two kinds are kept off it: step lines, where a progress bar on a terminal shows the same, and the tracebacks with
which torchrun answers requests to stop. Everything else passes byte by byte, so that a progress bar stays alive.
"""

import os
import re
from collections.abc import Callable

ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]")
_STEP_LINE = re.compile(rb"\d{4}-\d\d-\d\d,[^|]*\|[^|]*\| Train Epoch:")
# The trainer's lines begin with the date, frames of its bar do not.
_MAY_BECOME_STEP_LINE = re.compile(rb"\d{1,4}$|\d{4}-")
_TRACEBACK = b"Traceback (most recent call last):"
# What torchrun ends with when it is asked to stop: while it waits for its processes, and while it is imported.
_ANSWERS_TO_SIGNALS = (b"torch.distributed.elastic.multiprocessing.api.SignalException", b"KeyboardInterrupt")
_BETWEEN_TRACEBACKS = (b"During handling of the above", b"The above exception was")


class Screen:
    """Shows what one stream of the program says, less the lines that nobody needs there."""

    def __init__(self, fd: int, is_stopping: Callable[[], bool]) -> None:
        """Write to a file descriptor; ``is_stopping`` tells whether the program was asked to stop."""
        self._fd: int | None = fd
        self._is_stopping = is_stopping
        self._is_terminal = os.isatty(fd)
        self._rest = b""  # the end of what came, held back until its line is known
        self._traceback: list[bytes] = []  # its lines so far, held back until its last line tells whose it is

    def show(self, data: bytes) -> None:
        """Show what came; the start of a line that may have to be hidden waits for the rest of it."""
        *lines, tail = (self._rest + data).split(b"\n")
        shown = [self._seen_of(line + b"\n") for line in lines]
        text = _parted(tail)[1]
        self._rest = text if self._may_be_hidden(text) else b""
        self._write(b"".join([*shown, tail[: len(tail) - len(self._rest)]]))

    def finish(self) -> None:
        """Show what is still held back."""
        self._write(b"".join([*self._traceback, self._rest]))
        self._traceback, self._rest = [], b""

    def _seen_of(self, line: bytes) -> bytes:
        """Give what the screen gets for a finished line: itself, nothing, or lines held back before too."""
        frames, text = _parted(line)
        plain = ESCAPE.sub(b"", text)
        if self._is_terminal and _STEP_LINE.match(plain):
            return frames  # they wiped the bar away; it is drawn again after the line
        if self._traceback:
            self._traceback.append(line)
            if not plain.strip() or plain.startswith((b" ", _TRACEBACK, *_BETWEEN_TRACEBACKS)):
                return b""
            held, self._traceback = b"".join(self._traceback), []
            return b"" if plain.startswith(_ANSWERS_TO_SIGNALS) else held
        if self._is_stopping() and plain.startswith(_TRACEBACK):
            self._traceback = [line]
            return b""
        return line

    def _may_be_hidden(self, text: bytes) -> bool:
        plain = ESCAPE.sub(b"", text)
        if self._is_terminal and _MAY_BECOME_STEP_LINE.match(plain):
            return True
        if self._traceback:
            return True
        return bool(plain) and self._is_stopping() and (_TRACEBACK.startswith(plain) or plain.startswith(_TRACEBACK))

    def _write(self, data: bytes) -> None:
        while data and self._fd is not None:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError:  # the reader went away; training goes on without an audience
                self._fd = None


def _parted(line: bytes) -> tuple[bytes, bytes]:
    """Part a line into the frames that were overwritten, with their carriage returns, and what remains to be seen."""
    body = line.rstrip(b"\r\n")
    start = body.rfind(b"\r") + 1
    return line[:start], line[start:]
