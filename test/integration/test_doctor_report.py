"""``python -m training.doctor --report`` as a user starts it, on the CPU and on the simulated npu."""

import getpass
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from npu_session import REPO, run_python, simulator_env, skip_without_hccl

TITLES = [
    "Environment",
    "Device calls",
    "Error against the CPU",
    "Attention, fused and plain",
    "Autocast and loss scale",
    "Training speed",
    "Encoding speed",
    "Fine-tuning on the shipped set",
    "All-reduce",
    "What was not tried",
]


@pytest.fixture(scope="module")
def environment():
    return simulator_env(devices=2)


def report(path, env, *words, timeout_s=300):
    words = ["-m", "training.doctor", "--report", "--output", str(path), *words]
    done = run_python(*words, env=env, timeout_s=timeout_s)
    return done, path.read_text(encoding="utf-8") if path.exists() else ""


def rows(text, title):
    """Give the rows of a section's table, as cells by column."""
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    head = [cell.strip() for cell in lines[0]]
    return [dict(zip(head, [cell.strip() for cell in line], strict=False)) for line in lines[2:]]


@pytest.mark.npu
@pytest.mark.slow
def test_a_report_on_the_npu_is_whole_and_names_nobody(tmp_path, environment):
    skip_without_hccl()
    path = tmp_path / "report.md"
    small = ("--model", "ViT-micro-8-32", "--batch-size", "4", "--seconds", "2")
    done, text = report(path, {**environment, "HCCL_IF_IP": "10.1.2.3"}, "--device", "npu", *small)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert text.startswith("# Device report: npu, Ascend910B1\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == TITLES
    assert "not whole" not in text
    assert "**" not in text.partition("## Environment")[0]
    errors = {row["What"]: float(row["relative_error"]) for row in rows(text, "Error against the CPU")}
    assert len(errors) == 12
    assert errors["fp32, gradients"] < 1e-4 < errors["amp, gradients"] < errors["amp_bf16, gradients"] < 0.1
    assert {row["What"] for row in rows(text, "Training speed")} == {"amp", "amp_bf16", "fp32"}
    assert "scale 65536 to 32768" in text
    trained, evaluated = rows(text, "Fine-tuning on the shipped set")
    assert re.match(r"training: \d+ of 10000 steps, precision amp$", trained["What"])
    assert float(trained["samples/s"]) > 0
    assert re.search(r"evaluation .*\| 0\.\d{3} \| 0\.\d{3} \| 0\.\d{3} \| ok \|", text)
    reduced = rows(text, "All-reduce")
    assert reduced[0]["What"] == "all-reduce, 2 processes, cpu:gloo,npu:hccl"
    assert all(float(row["bus GB/s"]) > 0 for row in reduced if row["What"].startswith("all-reduce of"))
    assert "10.1.2.3" not in text
    assert str(REPO) not in text
    assert socket.gethostname() not in text
    assert getpass.getuser() == "root" or getpass.getuser() not in text
    assert done.stdout.splitlines()[-1].startswith("written      ")


@pytest.mark.npu
def test_a_device_that_does_not_start_ends_the_report_soon_and_says_why(tmp_path, environment):
    env = {**environment, "NPUSIM_INIT_ERROR": "NPU function error: aclrtSetDevice, error code is 507033"}
    done, text = report(tmp_path / "report.md", env, "--device", "npu")
    assert done.returncode == 6, done.stdout + done.stderr[-2000:]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Environment", "Device calls", "What was not tried"]
    assert "507033" in text.partition("## What was not tried")[2]
    assert "Traceback" not in done.stdout + done.stderr


def test_a_report_that_is_interrupted_keeps_what_it_found(tmp_path):
    path = tmp_path / "report.md"
    command = [sys.executable, "-m", "training.doctor", "--report", "--device", "cpu", "--output", str(path)]
    env = {**os.environ, "PYTHONPATH": str(REPO / "src"), "OMP_NUM_THREADS": "1"}

    def hear_interrupts():
        # What a shell starts beside it ignores them, and so would what that starts.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, env=env, cwd=REPO, stdout=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    ) as running:
        ends = time.monotonic() + 120
        while not path.exists() and time.monotonic() < ends:
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=60)[0]
    assert running.returncode == 130
    assert f"what was found until then is in {path}" in said
    text = path.read_text(encoding="utf-8")
    assert "This report is not whole" in text
    assert len(rows(text, "Device calls")) >= 20


def test_a_wrong_name_is_refused_before_anything_is_measured(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(REPO / "src")}
    done, text = report(tmp_path / "report.md", env, "--device", "abacus")
    assert done.returncode == 2
    assert "there is no such device" in done.stdout
    assert text == ""


@pytest.mark.npu
@pytest.mark.slow
def test_a_report_as_a_user_makes_it_ends_within_ten_minutes(tmp_path, environment):
    started = time.monotonic()
    done, text = report(tmp_path / "report.md", environment, timeout_s=660)
    assert time.monotonic() - started < 600
    # A slow machine leaves parts unfinished, which the report says; what it measured is right.
    assert done.returncode in (0, 6), done.stderr[-2000:]
    assert "not whole" not in text
    assert "**wrong**" not in text
    assert "model ViT-B-32" in text
