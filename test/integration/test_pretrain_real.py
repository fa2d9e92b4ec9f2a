"""The pretraining wrappers with the real trainer on small shards, on the CPU."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runs import free_port
from shard_sets import image, write_shards, write_tar

ROOT = Path(__file__).resolve().parents[2]
MANY = ("train_performance_8p_pretrain.sh", "train_full_8p_pretrain_taskset.sh")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three shards of 96 samples."""
    return write_shards(tmp_path_factory.mktemp("the shards"), [40, 16, 40])


def _command(script: str, pattern: str, output: Path, *words: str) -> list[str]:
    fixed = [f"--train_data={pattern}", "--train_num_samples=96", "--device=cpu", "--model=ViT-micro-8-32"]
    fixed += [f"--output_dir={output}", "--workers=0", "--warmup=2"]
    return ["bash", str(ROOT / "test" / script), *fixed, *words]


def _start(command: list[str], **extra: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        **extra,
    }
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **streams)  # type: ignore[call-overload,no-any-return]


def _finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, complaints = process.communicate(timeout=240)
    return process.returncode, said + complaints


def _values(path: Path) -> dict[str, str]:
    return dict(line.split(" = ") for line in path.read_text(encoding="utf-8").splitlines())


def _pattern(shards: Path) -> str:
    return f"{shards}/{{00000..00002}}.tar"


def test_one_process_trains_and_its_figures_agree_with_its_log(shards: Path, tmp_path: Path) -> None:
    words = ("--batch_size=16", f"--val_data={shards}/00001.tar", "--", "--json-text-key", "caption")
    status, said = _finish(_start(_command("train_performance_1p_pretrain.sh", _pattern(shards), tmp_path, *words)))

    assert status == 0, said
    values = _values(tmp_path / "open_clip_bs16_1p_acc.log")
    log = (tmp_path / "train_0.log").read_text(encoding="utf-8")
    step_lines = [line for line in log.splitlines() if " Time: " in line]
    assert len(step_lines) == 3 * 6
    # ModelZoo's own arithmetic on the log, over the last 100 steps, here all; three decimals a time.
    mean_s = sum(float(line.split(" Time: ")[1].split(",")[0]) for line in step_lines) / len(step_lines)
    assert 16 / (mean_s + 0.0006) - 1 <= int(values["ActualFPS"]) <= 16 / max(mean_s - 0.0006, 1e-4)
    loss = re.findall(r" Loss: \S+ \((\S+)\)", step_lines[-1])[-1]
    assert values["TrainLoss"] == loss
    assert f"Train loss : {loss}" in said
    assert "image_to_text_acc_r5" in values


@pytest.mark.parametrize("script", MANY)
def test_two_processes_train(script: str, shards: Path, tmp_path: Path) -> None:
    words = ("--nproc_per_node=2", f"--master_port={free_port()}", "--batch_size=8", "--epochs=1")
    status, said = _finish(_start(_command(script, _pattern(shards), tmp_path, *words)))

    assert status == 0, said
    values = _values(tmp_path / "open_clip_bs16_2p_acc.log")
    assert (values["RankSize"], values["BatchSize"]) == ("2", "16")


@pytest.mark.parametrize("script", MANY)
def test_two_machines_train_together(script: str, shards: Path, tmp_path: Path) -> None:
    port = str(free_port())
    command = _command(script, _pattern(shards), tmp_path, "--nproc_per_node=1", "--batch_size=8", "--epochs=1")
    machines = [
        _start(command, NNODES="2", NODE_RANK=str(node), MASTER_ADDR="127.0.0.1", PORT=port) for node in range(2)
    ]
    ended = [_finish(machine) for machine in machines]

    assert [status for status, _ in ended] == [0, 0], ended
    assert "Final result" in ended[0][1]
    assert "Final result" not in ended[1][1]
    assert _values(tmp_path / "open_clip_bs16_2p_acc.log")["RankSize"] == "2"


@pytest.mark.parametrize("kind", ["missing", "over budget", "all bad", "no tar"])
@pytest.mark.parametrize("script", ["train_full_1p_pretrain.sh", *MANY])
def test_unusable_data_ends_within_a_minute_with_its_status(script: str, kind: str, tmp_path: Path) -> None:
    data = write_shards(tmp_path / "data", [24, 24])
    if kind == "missing":
        (data / "00001.tar").unlink()
    elif kind == "no tar":
        (data / "00001.tar").write_bytes(b"<html>not found</html>")
    else:
        bad = [(f"{n}.{end}", b"x") for n in range(24) for end in ("jpg", "txt")]
        for name in ("00001.tar",) if kind == "over budget" else ("00000.tar", "00001.tar"):
            write_tar(data / name, [*bad, ("s.jpg", image())])
    many = [] if "1p" in script else ["--nproc_per_node=2", f"--master_port={free_port()}"]

    started = time.monotonic()
    command = _command(script, f"{data}/{{00000..00001}}.tar", tmp_path / "out", *many, "--batch_size=8", "--epochs=1")
    status, said = _finish(_start(command))

    assert status == 3, said
    assert time.monotonic() - started < 60
    assert not list((tmp_path / "out").glob("*_acc*"))


def test_pinned_processes_stop_together_and_the_printed_command_goes_on(shards: Path, tmp_path: Path) -> None:
    words = ("--nproc_per_node=2", f"--master_port={free_port()}", "--batch_size=4", "--epochs=4")
    process = _start(_command("train_full_8p_pretrain_taskset.sh", _pattern(shards), tmp_path, *words))
    log_path, deadline = tmp_path / "train_0.log", time.monotonic() + 120
    while time.monotonic() < deadline and not (log_path.exists() and " Time: " in log_path.read_text("utf-8")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    status, said = _finish(process)

    assert status == 75, said
    again = re.search(r"Go on with the wrapper: (bash .*)", said)
    assert again is not None
    status, said = _finish(_start(["bash", "-c", again[1]]))
    assert status == 0, said
    (run_dir,) = (tmp_path / "logs").iterdir()
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [record["step"] for record in records if record["kind"] == "train"] == list(range(1, 4 * 12 + 1))


def test_a_killed_pinned_process_ends_the_run_with_its_status(shards: Path, tmp_path: Path) -> None:
    words = ("--nproc_per_node=2", f"--master_port={free_port()}", "--batch_size=4", "--epochs=400")
    process = _start(_command("train_full_8p_pretrain_taskset.sh", _pattern(shards), tmp_path, *words))
    log_path, deadline = tmp_path / "train_0.log", time.monotonic() + 120
    while time.monotonic() < deadline and not (log_path.exists() and " Time: " in log_path.read_text("utf-8")):
        time.sleep(0.02)
    started = time.monotonic()
    os.kill(_rank_one(process.pid), signal.SIGKILL)
    status, said = _finish(process)

    assert status == 137, said
    assert "process 1 ended first, with status 137" in said
    assert time.monotonic() - started < 60


def _rank_one(root: int) -> int:
    """Find the process of rank 1 below another by its environment."""
    below, found = [root], []
    while below:
        pid = below.pop()
        for task in Path(f"/proc/{pid}/task").iterdir():
            below += [int(child) for child in (task / "children").read_text().split()]
        if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
            found.append(pid)
    return min(found)
