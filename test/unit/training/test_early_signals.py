"""Signals before a run begins and after it is over: one line and status 75, and nothing at all."""

import signal
import subprocess
import sys

import pytest

from runs import trainer_environment

_STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
# Stands in for the seconds that importing torch takes: the program is really started and really imports this.
_SLOW_TORCH = "import sys, time\nsys.stdout.write('importing\\n')\nsys.stdout.flush()\ntime.sleep(60)\n"


@pytest.mark.parametrize("program", ["training.main", "open_clip_train.main"])
@pytest.mark.parametrize("number", _STOPS)
def test_a_stop_during_the_first_import_is_one_line_and_status_75(number, program, tmp_path):
    (tmp_path / "torch.py").write_text(_SLOW_TORCH)
    words = [sys.executable, "-m", program, "--dataset-type", "synthetic", "--train-num-samples", "8"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    status = tmp_path / "status"
    environ = trainer_environment(PYTHONPATH=str(tmp_path), OPEN_CLIP_STATUS_FILE=str(status))
    process = subprocess.Popen(words, env=environ, text=True, **streams, cwd=tmp_path)
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 75
    assert said.endswith(
        f"{number.name}: stopped before the run began; nothing was written. The same command starts it.\n"
    )
    assert "Traceback" not in said
    assert status.read_text() == "75\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["status", "torch.py"]


@pytest.mark.parametrize("number", _STOPS)
def test_a_stop_after_the_run_changes_nothing(number):
    script = """
import os, sys
from training.early_signals import answer_early_signals, run_begins
answer_early_signals()
from training.distributed import StopRequest
with StopRequest():
    run_begins()
os.kill(os.getpid(), int(sys.argv[1]))
print("reached the end")
"""
    words = [sys.executable, "-c", script, str(int(number))]
    done = subprocess.run(words, env=trainer_environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "reached the end\n")


def test_importing_the_program_leaves_the_signals_of_others_alone():
    script = (
        "import signal; before = signal.getsignal(2), signal.getsignal(15)\n"
        "import training.main, open_clip_train.main\n"
        "assert (signal.getsignal(2), signal.getsignal(15)) == before\n"
    )
    subprocess.run([sys.executable, "-c", script], env=trainer_environment(), check=True, timeout=60)
