import signal
import time

import pytest

from training.distributed import world_from_environment
from training.doctor.processes import Ended, last_words, run_program

SAVES = """
import signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
open(sys.argv[1], "w").close()
time.sleep(60)
"""


def test_a_program_that_ends_gives_its_status_and_its_words():
    ended = run_program(["-c", "import sys; print('one'); sys.exit('two')"], 30)
    assert ended.status == 1
    assert ended.output == "one\ntwo\n"
    assert ended.describe() == "ended with status 1: two"


def test_a_program_that_crashes_names_the_signal():
    ended = run_program(["-c", "import os; os.kill(os.getpid(), 11)"], 30)
    assert ended.status == -signal.SIGSEGV
    assert ended.describe() == "ended by SIGSEGV"


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path):
    mark = tmp_path / "alive"
    child = f"import time, pathlib\nwhile True: pathlib.Path({str(mark)!r}).touch(); time.sleep(0.05)"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    started = time.monotonic()
    ended = run_program(["-c", parent], 1, start_s=20, has_begun=mark.exists)
    assert time.monotonic() - started < 30
    assert ended.status is None
    assert ended.describe() == "it had not ended after 1 s"
    mark.unlink()
    time.sleep(0.5)
    assert not mark.exists()


def test_a_program_that_is_asked_to_end_may_save(tmp_path):
    begun = tmp_path / "begun"
    ended = run_program(["-c", SAVES, str(begun)], 0.1, grace_s=20, start_s=20, has_begun=begun.exists)
    assert "saved" in ended.output


def test_a_program_is_no_part_of_the_job_whose_shell_it_is_started_from(monkeypatch):
    launchers = ("LOCAL_RANK RANK WORLD_SIZE", "SLURM_LOCALID SLURM_PROCID SLURM_NTASKS", "RANK_ID RANK_SIZE")
    launchers += ("OMPI_COMM_WORLD_LOCAL_RANK OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE",)
    launchers += ("MPI_LOCALRANKID PMI_RANK PMI_SIZE",)
    for *ranks, size in map(str.split, launchers):
        for name, value in [*((rank, "0") for rank in ranks), (size, "2")]:
            monkeypatch.setenv(name, value)
    assert world_from_environment().is_distributed
    world = "from training.distributed import world_from_environment; print(world_from_environment().is_distributed)"
    assert run_program(["-c", world], 60).output == "False\n"


@pytest.mark.parametrize(
    "output,mark,words",
    [
        ("", "", ""),
        ("Traceback (most recent call last):\n  File 'x'\nRuntimeError: EI0006\n", "", ": RuntimeError: EI0006"),
        ("a failed: b\nRoot cause\n=====\n", "a failed: ", ": b"),
        (
            "terminate called\nE1201 10:44 failed\nx.y FAILED\nFailures:\n[1]:\n  time: 1\nRoot Cause (first):\n[0]:\n",
            "",
            ": terminate called",
        ),
        ("first\nlast \x1b[31m\n", "", ": last \\x1b[31m"),
    ],
)
def test_the_last_words_are_the_line_that_says_most(output, mark, words):
    assert last_words(output, mark) == words
    assert Ended(1, output, 1.0).describe(mark) == f"ended with status 1{words}"
