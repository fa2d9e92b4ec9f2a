"""What a wrapper's log gets of the program that it runs."""

import os
import pty
from pathlib import Path

from wrapper_logs import RunLog
from wrapper_streams import run_logged

SAYS = "printf 'starts\\n\\rbar 1/2\\rbar 2/2'; printf 'a step\\n\\rbar' >&2; printf '\\nthe end'"


def test_the_log_gets_finished_lines_without_the_frames_of_a_bar(tmp_path: Path) -> None:
    run_logged(["bash", "-c", SAYS], RunLog(tmp_path / "log", append=False), dict(os.environ))

    assert sorted((tmp_path / "log").read_text().splitlines()) == ["a step", "bar", "bar 2/2", "starts", "the end"]


def test_a_terminal_is_the_programs_own_and_the_log_what_it_writes_there(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    kept = os.dup(2)
    os.dup2(terminal, 2)
    try:
        words = ["bash", "-c", 'test -t 2 && echo bar >&2 && echo a step >> "$OPEN_CLIP_LOG_FILE"']
        assert run_logged(words, RunLog(tmp_path / "log", append=False), dict(os.environ)) == (0, False)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(terminal)

    assert os.read(controller, 100) == b"bar\r\n"
    os.close(controller)
    assert (tmp_path / "log").read_text() == "a step\n"


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
