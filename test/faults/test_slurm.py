"""The Slurm job scripts in real runs; `srun` and `scontrol` are small scripts that do what Slurm's do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents import descendants, send
from pairs import make_pairs, micro_flags
from runs import ROOT, train_losses, trainer_environment, wait_for_step

pytestmark = [pytest.mark.faults, pytest.mark.slow]
# Two tasks of one node, with the variables and the signal forwarding of Slurm's own.
SRUN = """#!/bin/bash
shift
pids=()
for task in 0 1; do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=2 SLURM_NODEID=0 SLURM_STEP_TASKS_PER_NODE=2 \\
        SLURM_STEP_NODELIST=127.0.0.1 "$@" &
    pids+=($!)
done
trap 'kill -USR1 "${pids[@]}"' USR1
status=0
for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2>/dev/null; do wait "$pid"; one=$?; done
    [ "$one" -gt "$status" ] && status=$one
done
exit "$status"
"""
SCONTROL = """#!/bin/bash
echo "$@" >> "$SCONTROL_CALLS"
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("data"), 60, 2, name="train.csv")


@pytest.fixture
def job(tmp_path):
    """Start a job script as Slurm does, from the folder where it was submitted."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    started = []

    def starting(script, flags):
        environ = trainer_environment(
            PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
            PYTHON=sys.executable,
            PROCESSES="2",
            SLURM_JOB_ID=str(os.getpid()),
            SLURM_SUBMIT_DIR=str(ROOT),
            SCONTROL_CALLS=str(tmp_path / "calls"),
        )
        environ.pop("PYTHONPATH")
        with (tmp_path / f"job-{len(started)}.log").open("w") as log:
            command = ["bash", str(ROOT / "scripts" / "slurm" / script), *flags]
            started.append(subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path))
        return started[-1], Path(log.name)

    yield starting
    for process in started:
        for pid in (process.pid, *descendants(process.pid)):
            send(pid, signal.SIGKILL)


@pytest.mark.parametrize("script", ["one_node.sh", "many_nodes.sh"])
def test_a_job_that_is_given_notice_saves_is_queued_again_and_goes_on(table, tmp_path, job, script):
    flags = micro_flags(table, None, logs_dir=tmp_path / "logs", name="run", batch_size=4)
    process, log = job(script, flags)
    process.stdout = log.open()
    wait_for_step(tmp_path / "logs" / "run", 5, process)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(120) == 0, log.read_text()
    assert (tmp_path / "calls").read_text() == f"requeue {os.getpid()}\n"
    assert "stopped on request after step" in log.read_text()
    process, log = job(script, flags)
    assert process.wait(240) == 0, log.read_text()
    assert "=> resuming checkpoint" in log.read_text()
    assert sorted(train_losses(tmp_path / "logs" / "run")) == list(range(1, 31))
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_a_job_without_a_name_for_its_run_is_refused(job):
    process, log = job("one_node.sh", ["--train-data", "pairs.csv"])
    assert process.wait(60) == 2
    assert "--name RUN" in log.read_text()


def test_a_failed_run_keeps_its_status_and_is_not_queued_again(tmp_path, job):
    flags = micro_flags(tmp_path / "absent.csv", None, logs_dir=tmp_path / "logs", name="run")
    process, log = job("one_node.sh", flags)
    assert process.wait(120) == 3, log.read_text()
    assert not (tmp_path / "calls").exists()
