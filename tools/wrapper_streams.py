"""Run one program with its output both on the screen and in a log file, signals passed on.

What would be on a terminal stays the program's own, so that its progress bar lives: the trainer writes its lines into
the log by itself then. Any other output comes through a pipe, and the log file gets finished lines only.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType

from training.parents import signal_when_parent_ends
from wrapper_logs import RunLog

# `timeout` and process groups deliver one request to stop twice; a person needs longer for the second one.
_SAME_REQUEST_S = 1.0
_CHUNK_BYTES = 65536


class Channel:
    """One output stream of the program: read from a pipe, passed on byte by byte, logged by lines."""

    def __init__(self, screen_fd: int, log: RunLog) -> None:
        self.screen_fd: int | None = screen_fd
        self._log = log
        self._line = b""
        self.read_fd, self.write_fd = os.pipe()

    def pump(self) -> bool:
        """Pass on what can be read; False at the end of the stream."""
        data = os.read(self.read_fd, _CHUNK_BYTES)
        self._show(data)
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._log.write_line(line.removesuffix(b"\r").rpartition(b"\r")[2])
        # Of an unfinished line only the last frame can still be seen; a bar must not pile up for an epoch.
        body = self._line.removesuffix(b"\r")
        self._line = body.rpartition(b"\r")[2] + self._line[len(body) :]
        return bool(data)

    def finish(self) -> None:
        """Log an unfinished last line and close."""
        if self._line.strip():
            self._log.write_line(self._line.rstrip(b"\r"))
        os.close(self.read_fd)

    def _show(self, data: bytes) -> None:
        while data and self.screen_fd is not None:
            try:
                data = data[os.write(self.screen_fd, data) :]
            except OSError:  # the reader went away; training goes on without an audience
                self.screen_fd = None


def run_logged(
    command: Sequence[str], log: RunLog, env: Mapping[str, str], look: Callable[[], None] = lambda: None
) -> tuple[int, bool]:
    """Run a program to its end; when this process is killed, it is asked to stop.

    Args:
        command: The words of the command line.
        log: Gets stdout and stderr.
        env: The program's environment.
        look: Called a few times a second while the program runs.

    Returns:
        Its exit status, 128 + N when signal N ended it; and whether it was asked to stop.
    """
    sys.stdout.flush()
    requests = _Requests()
    channels = {fd: Channel(fd, log) for fd in (1, 2) if not os.isatty(fd)}
    # The trainer's lines go to stderr.
    own_lines = {} if 2 in channels else {"OPEN_CLIP_LOG_FILE": str(log.path.absolute())}
    parent = os.getpid()
    with _signals_passed_on(requests):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=channels[1].write_fd if 1 in channels else None,
            stderr=channels[2].write_fd if 2 in channels else None,
            env={**env, **own_lines},
            # Its own session: Ctrl-C reaches this program only, which passes it on once.
            start_new_session=True,
            preexec_fn=lambda: signal_when_parent_ends(signal.SIGTERM, parent),
        )
        for channel in channels.values():
            os.close(channel.write_fd)
        requests.attach(process)
        _pump_all(process, channels.values(), look)
        status = process.wait()
    for channel in channels.values():
        channel.finish()
    return status if status >= 0 else 128 - status, requests.were_made()


class _Requests:
    """Requests to stop: passed to the program, or kept until there is one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: int | None = None
        self._last_s = float("-inf")
        self._is_interrupted = False

    def were_made(self) -> bool:
        """Tell whether the program was asked to stop."""
        return self._last_s > float("-inf")

    def attach(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        if self._kept is not None:
            process.send_signal(self._kept)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last_s < _SAME_REQUEST_S:
            return
        self._last_s = now
        # torchrun passes on INT and TERM only, and dies of USR1.
        passed = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        if self._process is None:
            self._kept = passed
        elif passed == signal.SIGINT and self._is_interrupted:
            # torchrun would make a SIGTERM of it, which asks its processes for nothing new: Ctrl-C is for all of them.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, passed)
        else:
            self._process.send_signal(passed)
        self._is_interrupted |= passed == signal.SIGINT


@contextlib.contextmanager
def _signals_passed_on(requests: _Requests) -> Iterator[None]:
    stops = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    handlers: dict[int, Callable[[int, FrameType | None], None]] = dict.fromkeys(stops, requests.handle)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to outlive the terminal
        handlers[signal.SIGHUP] = requests.handle
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pump_all(process: subprocess.Popen[bytes], channels: Iterable[Channel], look: Callable[[], None]) -> None:
    with selectors.DefaultSelector() as selector:
        for channel in channels:
            selector.register(channel.read_fd, selectors.EVENT_READ, channel)
        while selector.get_map() or process.poll() is None:
            ready = selector.select(timeout=0.2)
            look()
            # A grandchild that outlives the program may hold its output open for ever.
            if not ready and process.poll() is not None:
                return
            for key, _ in ready:
                if not key.data.pump():
                    selector.unregister(key.fd)
