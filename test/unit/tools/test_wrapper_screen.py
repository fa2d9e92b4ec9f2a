"""What reaches a person's screen of the trainer's output."""

import os
import pty
import re
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wrapper_logs import RunLog
from wrapper_screen import Screen
from wrapper_streams import run_logged

STEP = b"2026-01-01,00:00:00 | INFO | Train Epoch: 0 [ 8/16 (50%)] Time: 0.1, Loss: 2.0 (2.0)"
WIPE = b"\r" + b" " * 40 + b"\r"
BAR = b"\rEpoch 1/2:  50%|#####     | 8/16, loss 2.0"
LAUNCHERS = b"""Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
    raise SignalException(f"Process {os.getpid()} got signal: {sigval}", sigval=sigval)
torch.distributed.elastic.multiprocessing.api.SignalException: Process 7 got signal: 15
"""
TRAINERS = b"""Traceback (most recent call last):
  File "train.py", line 1, in <module>

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "train.py", line 2, in <module>
OSError: no space
"""


def _shown(pieces: list[bytes], *, on_terminal: bool, is_stopping: bool = False) -> bytes:
    with _reader(on_terminal) as (read_fd, write_fd):
        screen = Screen(write_fd, lambda: is_stopping)
        seen = b""
        for piece in pieces:
            screen.show(piece)
            seen += _read_all(read_fd)
        screen.finish()
        return seen + _read_all(read_fd)


@contextmanager
def _reader(on_terminal: bool) -> Iterator[tuple[int, int]]:
    read_fd, write_fd = pty.openpty() if on_terminal else os.pipe()
    if on_terminal:
        settings = termios.tcgetattr(write_fd)
        settings[1] &= ~termios.OPOST
        termios.tcsetattr(write_fd, termios.TCSANOW, settings)
    os.set_blocking(read_fd, False)
    try:
        yield read_fd, write_fd
    finally:
        os.close(write_fd)
        os.close(read_fd)


def _read_all(fd: int) -> bytes:
    seen = b""
    while True:
        try:
            seen += os.read(fd, 65536)
        except BlockingIOError:
            return seen


def _bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


@pytest.mark.parametrize("cut", [list, _bytewise, lambda data: [data[:60], data[60:75], data[75:]]])
def test_a_terminal_shows_the_bar_and_other_lines_but_no_step_line(cut) -> None:  # type: ignore[no-untyped-def]
    data = b"starts\n" + BAR + WIPE + STEP + b"\n" + BAR + WIPE + b"2026-01-01,00:00:01 | INFO | Eval Epoch: 1\n" + BAR
    pieces = [data] if cut is list else cut(data)

    seen = _shown(pieces, on_terminal=True)

    assert seen == data.replace(STEP + b"\n", b"")


def test_a_frame_of_the_bar_is_shown_at_once() -> None:
    with _reader(on_terminal=True) as (read_fd, write_fd):
        screen = Screen(write_fd, lambda: False)

        screen.show(BAR)

        assert _read_all(read_fd) == BAR


def test_a_file_or_pipe_gets_everything() -> None:
    data = BAR + WIPE + STEP + b"\n" + LAUNCHERS + TRAINERS + b"2026-01"

    assert _shown(_bytewise(data), on_terminal=False) == data


@pytest.mark.parametrize("on_terminal", [True, False])
def test_torchruns_own_traceback_is_hidden_after_a_request_to_stop(on_terminal: bool) -> None:
    imported = b'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nKeyboardInterrupt\n'
    said = b"stopped on request\n" + LAUNCHERS + imported + b"the end\n"

    for pieces in ([said], _bytewise(said)):
        assert _shown(pieces, on_terminal=on_terminal, is_stopping=True) == b"stopped on request\nthe end\n"


def test_any_other_traceback_is_shown_even_after_a_request_to_stop() -> None:
    said = b"\x1b[1m" + TRAINERS + b"the end\n" + TRAINERS[:50]

    for pieces in ([said], _bytewise(said)):
        assert _shown(pieces, on_terminal=False, is_stopping=True) == said


def test_the_log_keeps_the_step_lines_that_the_terminal_does_not_show(tmp_path: Path) -> None:
    program = tmp_path / "program.sh"
    said = (BAR + WIPE + STEP + b"\n" + BAR + b"\nthe end\n").decode()
    program.write_text(f"cat >&2 <<'TEXT'\n{said}TEXT\n", encoding="utf-8")
    log_path = tmp_path / "log"

    with _reader(on_terminal=True) as (read_fd, write_fd):
        kept = os.dup(2)
        os.dup2(write_fd, 2)
        try:
            assert run_logged(["bash", str(program)], RunLog(log_path, append=False), dict(os.environ)) == (0, False)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        seen = _read_all(read_fd)

    assert b"Train Epoch" not in seen
    assert re.search(rb"8/16, loss 2.0\n", seen)
    assert log_path.read_bytes().splitlines() == [STEP, BAR[1:], b"the end"]


def test_a_log_can_be_continued(tmp_path: Path) -> None:
    log_path = tmp_path / "log"
    for word, append in (("one", False), ("two", True)):
        log = RunLog(log_path, append=append)
        run_logged(["echo", word], log, dict(os.environ))
        log.close()

    assert log_path.read_text(encoding="utf-8") == "one\ntwo\n"


def test_a_log_that_a_full_disk_cut_is_continued_on_a_new_line(tmp_path: Path) -> None:
    log_path = tmp_path / "log"
    log_path.write_text("one\nhalf a li", encoding="utf-8")

    run_logged(["echo", "two"], RunLog(log_path, append=True), dict(os.environ))

    assert log_path.read_text(encoding="utf-8") == "one\nhalf a li\ntwo\n"
