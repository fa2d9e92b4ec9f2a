"""The doors of recipes/nxtp: which processes their scripts start; python, `srun` and `scontrol` are stand-ins."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "recipes" / "nxtp" / "src"
# Counts devices as a machine with three, and notes how torchrun would be started; a notice (USR1) must not end it.
PYTHON = """#!/bin/bash
if [ "$1" = -c ]; then echo 3; exit; fi
[ -z "${NOTICE:-}" ] || kill -USR1 $$
printf '%s\\n' "$@" > "$RECORD"
[ -z "${LEAVES:-}" ] || { echo "$LEAVES" > "$OPEN_CLIP_STATUS_FILE"; exit 1; }
"""
SRUN = """#!/bin/bash
echo "$1" > "$RECORD.srun"
shift
exec "$@"
"""
SCONTROL = """#!/bin/bash
echo "$@" >> "$RECORD.scontrol"
[ "$1" = requeue ] || printf '%s\\n' node-07 node-08
"""
LAUNCHER = ["-m", "torch.distributed.run"]
TRAIN = ["train.py", "configs/config_g3m.py"]
SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NUM_NODES": "4",
    "SLURM_JOB_NODELIST": "node-[07-10]",
    "SLURM_GPUS_ON_NODE": "8",
}


@pytest.fixture
def start(tmp_path):
    """Start a script as the seed's lines do, from the folder of the sources; give its status and what was recorded."""
    for name, text in (("python", PYTHON), ("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def starting(*words, **extra):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "NPROC", "PYTHON"))}
        environ = {**kept, "PATH": f"{tmp_path}:{os.environ['PATH']}", "RECORD": str(tmp_path / "record"), **extra}
        done = subprocess.run(words, cwd=SOURCES, env=environ, capture_output=True, text=True, timeout=60)
        record = tmp_path / "record"
        return done, record.read_text().splitlines() if record.exists() else None

    return starting


def test_a_machine_gets_a_process_a_device(start):
    done, words = start("./scripts/run", *TRAIN)
    assert done.returncode == 0, done.stderr
    assert words == [*LAUNCHER, "--standalone", "--nproc_per_node", "3", *TRAIN]


def test_the_number_of_processes_may_be_asked_for(start):
    words = start("./scripts/run", "eval_hook.py", "evals/eval.py", "configs/config_g3m.py", NPROC="2")[1]
    assert words[3:] == ["--nproc_per_node", "2", "eval_hook.py", "evals/eval.py", "configs/config_g3m.py"]


def test_a_single_process_has_no_launcher(start):
    assert start("./scripts/run", *TRAIN, NPROC="1")[1] == TRAIN


def test_the_trainers_own_status_comes_back(start):
    assert start("./scripts/run", *TRAIN, LEAVES="3")[0].returncode == 3
    assert start("./scripts/run", *TRAIN, LEAVES="4", NPROC="1")[0].returncode == 4
    assert start("./scripts/run_dist", *TRAIN, LEAVES="4", **SLURM)[0].returncode == 4


def test_each_node_of_a_slurm_job_gets_a_launcher_that_meets_on_the_first(start, tmp_path):
    done, words = start("./scripts/run_dist", *TRAIN, **SLURM)
    assert done.returncode == 0, done.stderr
    place = ["--rdzv_id", "77", "--rdzv_backend", "c10d", "--rdzv_endpoint", "node-07:29500"]
    assert words == [*LAUNCHER, "--nnodes", "4", "--nproc_per_node", "8", *place, *TRAIN]
    assert (tmp_path / "record.srun").read_text() == "--kill-on-bad-exit=1\n"
    assert (tmp_path / "record.scontrol").read_text() == "show hostnames node-[07-10]\n"


def test_a_notice_does_not_end_the_launcher(start):
    done, words = start("./scripts/run_dist", *TRAIN, NOTICE="1", **SLURM)
    assert (done.returncode, words is None) == (0, False), done.stderr


def test_a_stopped_job_is_queued_again_and_then_goes_on(start, tmp_path):
    done, words = start("./scripts/run_dist", *TRAIN, LEAVES="75", **SLURM)
    assert (done.returncode, words[-1]) == (0, TRAIN[-1])
    assert (tmp_path / "record.scontrol").read_text().splitlines()[-1] == "requeue 77"
    assert start("./scripts/run_dist", *TRAIN, SLURM_RESTART_COUNT="1", **SLURM)[1][-1] == "resume=True"


@pytest.mark.parametrize(
    "door",
    ["train.py", "eval_hook.py", "infer.py", "plot_log.py", "loader.py", "data/mscoco_to_wds.py", "evals/eval.py"],
)
def test_a_door_is_short_and_has_no_logic_of_its_own(door):
    text = (SOURCES / door).read_text()
    tree = ast.parse(text)
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) <= 15
    # The only question a door asks is whether it is the program.
    asked = [ast.unparse(one.test) for one in ast.walk(tree) if isinstance(one, ast.If)]
    assert set(asked) <= {"__name__ == '__main__'"}
    assert not [one for one in ast.walk(tree) if isinstance(one, ast.For | ast.While | ast.Try | ast.IfExp)]


@pytest.mark.parametrize(
    "door",
    ["plot_log.py", "infer.py", "data/mscoco_to_wds.py"],
)
def test_a_door_to_a_tool_finds_it(tmp_path, door):
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(SOURCES / door), "--help"]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "usage" in done.stdout) == (0, True), done.stderr
