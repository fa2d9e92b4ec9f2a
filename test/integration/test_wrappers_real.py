"""The wrappers with the real trainer on a slice of the quickstart's images, on the CPU."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "examples" / "flickr30k-emoji"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Flickr30k folder of 128 training rows and 32 test rows."""
    folder = tmp_path_factory.mktemp("flickr 30k")
    lines = (IMAGES / "results_20130124.token").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t") for line in lines if line.partition("\t")[0].endswith("#0")][:160]
    rows = [(IMAGES / "flickr30k-images" / name.partition("#")[0], caption) for name, caption in pairs]
    for name, part in (("flickr30k_train.csv", rows[:128]), ("flickr30k_test.csv", rows[128:])):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("img_key", "caption_key"), *part])
    return folder


def _command(script: str, data: Path, output: Path, *words: str) -> list[str]:
    fixed = [f"--data_path={data}", "--pretrain_model=none", "--device=cpu", "--model=ViT-micro-8-32"]
    fixed += [f"--output_dir={output}", "--workers=0", "--warmup=2"]
    return ["bash", str(ROOT / "test" / script), *fixed, *words]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=240)


def _values(path: Path) -> dict[str, str]:
    return dict(line.split(" = ") for line in path.read_text(encoding="utf-8").splitlines())


def test_one_process_trains_and_its_figures_agree_with_its_log(data: Path, tmp_path: Path) -> None:
    done = _run(_command("train_performance_1p.sh", data, tmp_path, "--batch_size=16"))

    assert done.returncode == 0, done.stderr
    values = _values(tmp_path / "open_clip_bs16_1p_acc.log")
    log = (tmp_path / "train_0.log").read_text(encoding="utf-8")
    # ModelZoo's own arithmetic on the log: 16 steps, three decimals a time, so the mean is off by 0.5 ms at most.
    step_lines = [line for line in log.splitlines() if " Time: " in line]
    times = [float(line.split(" Time: ")[1].split(",")[0]) for line in step_lines]
    assert len(times) == 16
    mean_s = sum(times) / len(times)
    assert 16 / (mean_s + 0.0006) - 1 <= int(values["ActualFPS"]) <= 16 / max(mean_s - 0.0006, 1e-4)
    assert float(values["TrainingTime"]) == pytest.approx(sum(times), abs=0.0005 * 16 + 0.001)
    losses = (tmp_path / "train_open_clip_bs16_1p_acc_loss.txt").read_text(encoding="utf-8").splitlines()
    assert losses == [line.rpartition(" Loss: ")[2] for line in step_lines]
    accuracy = re.findall(r"Eval Epoch: .*image_to_text_R@5: ([\d.]+)", log)[-1]
    assert values["TrainAccuracy"] == accuracy
    assert f"Final Train Accuracy : {accuracy}" in done.stdout
    (run_dir,) = (tmp_path / "logs").iterdir()
    assert (run_dir / "checkpoints" / "epoch_2.pt").is_file()


def test_two_processes_train_through_torchrun(data: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    many = ("--nproc_per_node=2", f"--master_port={port}", "--batch_size=8", "--epochs=1")
    done = _run(_command("train_performance_8p.sh", data, tmp_path, *many))

    assert done.returncode == 0, done.stderr
    values = _values(tmp_path / "open_clip_bs16_2p_acc.log")
    assert (values["RankSize"], values["BatchSize"]) == ("2", "16")


@pytest.mark.parametrize("script", ["train_full_1p.sh", "train_full_8p.sh"])
def test_a_broken_table_ends_with_the_status_for_data(script: str, data: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for name in ("flickr30k_train.csv", "flickr30k_test.csv"):
        (bad / name).write_text("image,words\na.jpg,b\n", encoding="utf-8")

    many = ["--nproc_per_node=2", "--master_port=29713"] if "8p" in script else []
    done = _run(_command(script, bad, tmp_path / "out", *many))

    assert done.returncode == 3, done.stderr
    assert not list((tmp_path / "out").glob("*_acc*"))


@pytest.mark.parametrize("script", ["train_full_1p.sh", "train_full_8p.sh"])
def test_a_stop_saves_and_the_printed_command_goes_on(script: str, data: Path, tmp_path: Path) -> None:
    many = ["--nproc_per_node=2", "--master_port=29714"] if "8p" in script else []
    command = _command(script, data, tmp_path, *many, "--batch_size=8", "--epochs=3")
    process = subprocess.Popen(
        command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    log_path, deadline = tmp_path / "train_0.log", time.monotonic() + 120
    while time.monotonic() < deadline and not (log_path.exists() and " Time: " in log_path.read_text("utf-8")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)

    assert process.returncode == 75, said
    # torchrun's own answer to a signal is a traceback; there is no other.
    assert said.count("Traceback") == (said.count("SignalException: Process") if "8p" in script else 0)
    again = re.search(r"Go on with the wrapper: (bash .*)", said)
    assert again is not None
    done = _run(["bash", "-c", again[1]])
    assert done.returncode == 0, done.stderr
    (run_dir,) = (tmp_path / "logs").iterdir()
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [record for record in records if record["kind"] == "train"]
    ranks = 2 if many else 1
    assert [record["step"] for record in steps] == list(range(1, 3 * 128 // (8 * ranks) + 1))
    # The result files and the log are those of the whole run, not of its last part.
    values = _values(tmp_path / f"open_clip_bs{8 * ranks}_{ranks}p_acc.log")
    times_s = sum(record["step_time_s"] for record in steps)
    assert float(values["TrainingTime"]) == pytest.approx(times_s, abs=0.0005 * len(steps) + 0.001)
    assert log_path.read_text("utf-8").count("| Train Epoch:") == len(steps)
