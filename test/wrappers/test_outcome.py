"""What the wrappers leave behind: status, log, result files; signals and terminals."""

import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from recording_python import Wrapper, make_wrapper, write_run

CASE = "open_clip_bs128_1p_acc"


@pytest.fixture
def wrapper(tmp_path: Path) -> Wrapper:
    return make_wrapper("train_full_1p.sh", tmp_path)


def _read(path: Path) -> dict[str, str]:
    return dict(line.split(" = ") for line in path.read_text(encoding="utf-8").splitlines())


def test_a_finished_run_leaves_modelzoos_files(wrapper: Wrapper) -> None:
    done = wrapper.run()

    assert done.returncode == 0, done.stderr
    assert list(_read(wrapper.output / f"{CASE}.log").items())[:8] == [
        ("Network", "open_clip"),
        ("RankSize", "1"),
        ("BatchSize", "128"),
        ("DeviceType", os.uname().machine),
        ("CaseName", CASE),
        ("TrainAccuracy", "0.7770"),
        ("ActualFPS", "426"),  # 128 / 0.3, the last 100 steps, truncated
        ("TrainingTime", "80.000"),
    ]
    assert {"ActualLoss", "text_to_image_acc_r5", "image_to_text_acc_r5"} <= _read(
        wrapper.output / f"{CASE}.log"
    ).keys()
    assert list(_read(wrapper.output / f"{CASE}_perf_report.log")) == ["ActualFPS", "TrainingTime", "E2ETrainingTime"]
    losses = (wrapper.output / f"train_{CASE}_loss.txt").read_text(encoding="utf-8").splitlines()
    assert len(losses) == 150
    assert losses[0] == "2.0000 (2.0000)"
    block = done.stdout[done.stdout.index("----") :].splitlines()
    assert block[0] == "------------------ Final result ------------------"
    assert block[1:3] == ["Final Performance images/sec : 426", "Final Train Accuracy : 0.7770"]
    assert re.fullmatch(r"E2E Training Duration sec : \d+", block[3])


def test_a_case_name_of_ones_own_names_the_files(wrapper: Wrapper) -> None:
    wrapper.run("--case_name=mine_perf")

    assert _read(wrapper.output / "mine_perf.log")["CaseName"] == "mine_perf"


@pytest.mark.parametrize("status", [1, 2, 3, 4, 5, 6, 75])
@pytest.mark.parametrize("script", ["train_full_1p.sh", "train_performance_8p.sh"])
def test_the_trainers_status_is_passed_on_and_no_result_is_claimed(script: str, status: int, tmp_path: Path) -> None:
    wrapper = make_wrapper(script, tmp_path)
    wrapper.output.mkdir()
    ranks = 1 if "1p" in script else 2
    stale = wrapper.output / f"open_clip_bs{128 * ranks}_{ranks}p_acc.log"
    stale.write_text("TrainAccuracy = 0.9\n", encoding="utf-8")

    many = ["--nproc_per_node=2", f"--master_port={20000 + status}"] if ranks == 2 else []
    done = wrapper.run(*many, STAND_IN_STATUS=str(status))

    assert done.returncode == status
    assert not stale.exists()
    assert sorted(path.name for path in wrapper.output.iterdir()) == ["train_0.log"]
    assert "Final" not in done.stdout


def test_the_users_own_files_in_the_output_folder_stay(wrapper: Wrapper) -> None:
    keep = wrapper.output / "logs" / "older run" / "checkpoints" / "epoch_1.pt"
    keep.parent.mkdir(parents=True)
    keep.write_text("weights", encoding="utf-8")
    write_run(wrapper.output / "logs" / "older run", batch=8, ranks=1)
    os.utime(wrapper.output / "logs" / "older run" / "summary.json", (1.0, 1.0))
    (wrapper.output / "notes.txt").write_text("mine", encoding="utf-8")

    assert wrapper.run().returncode == 0

    assert keep.read_text(encoding="utf-8") == "weights"
    assert (wrapper.output / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert _read(wrapper.output / f"{CASE}.log")["BatchSize"] == "128"


def test_the_log_holds_both_streams_and_only_the_last_frame_of_a_bar(wrapper: Wrapper) -> None:
    done = wrapper.run()

    lines = (wrapper.output / "train_0.log").read_text(encoding="utf-8").splitlines()
    assert sorted(lines) == ["2026-01-01,00:00:00 | INFO | Train Epoch: 0", "step 2"]
    assert done.stdout.startswith("2026-01-01")
    assert "step 1" in done.stderr


def test_on_a_terminal_the_trainer_has_a_terminal(wrapper: Wrapper) -> None:
    controller, terminal = pty.openpty()
    environment = wrapper.environment(STAND_IN_TERMINALS="1")
    process = subprocess.Popen(wrapper.command(), env=environment, stdout=subprocess.PIPE, stderr=terminal, text=True)
    os.close(terminal)
    shown, _ = process.communicate(timeout=60)
    seen = b""
    while select.select([controller], [], [], 0.2)[0]:
        try:
            seen += os.read(controller, 4096)
        except OSError:
            break
    os.close(controller)

    assert "terminals False True" in shown
    assert b"step 1" in seen
    assert "terminals False True" in (wrapper.output / "train_0.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "sent, received",
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGUSR1, signal.SIGTERM),
        (signal.SIGHUP, signal.SIGTERM),
    ],
)
def test_a_signal_to_the_whole_group_reaches_the_trainer_once(
    wrapper: Wrapper, tmp_path: Path, sent: signal.Signals, received: signal.Signals
) -> None:
    ready = tmp_path / "ready"
    process = subprocess.Popen(
        wrapper.command("--", "--seed", "1"),
        env=wrapper.environment(STAND_IN_SLEEP=str(ready)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Under nohup the tests ignore it, and a shell cannot trap what was ignored when it started.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(sent)
    os.killpg(process.pid, sent)
    shown, _ = process.communicate(timeout=30)

    assert process.returncode == 75
    assert f"signals [{int(received)}]" in shown


def _leave_checkpoint(wrapper: Wrapper, name: str = "my-run") -> None:
    run_dir = wrapper.output / "logs" / name
    write_run(run_dir, batch=128, ranks=1)
    (run_dir / "checkpoints").mkdir()
    (run_dir / "checkpoints" / "epoch_1.pt").touch()
    # A trainer writes while the wrapper runs; this was written before, so its time must not be that of an older run.
    soon = time.time() + 60
    os.utime(run_dir / "metrics.jsonl", (soon, soon))


@pytest.mark.parametrize("status", [1, 3, 5, 6, 75, 137])
def test_a_run_that_left_a_checkpoint_says_how_to_go_on(wrapper: Wrapper, status: int) -> None:
    _leave_checkpoint(wrapper)

    done = wrapper.run(STAND_IN_STATUS=str(status))

    assert done.stderr.rstrip().endswith(" -- --name my-run --resume latest")
    assert "Go on with the wrapper: bash " in done.stderr
    assert str(wrapper.script) in done.stderr


def test_a_usage_error_and_a_run_without_a_checkpoint_do_not_say_how_to_go_on(wrapper: Wrapper) -> None:
    write_run(wrapper.output / "logs" / "my-run", batch=128, ranks=1)
    assert "Go on" not in wrapper.run(STAND_IN_STATUS="1").stderr

    _leave_checkpoint(wrapper, "other")
    assert "Go on" not in wrapper.run(STAND_IN_STATUS="2").stderr


def test_going_on_keeps_the_log_and_says_the_same_command_again(wrapper: Wrapper) -> None:
    _leave_checkpoint(wrapper, "my run")
    first = wrapper.run(STAND_IN_STATUS="75").stderr.rpartition("Go on with the wrapper: ")[2]

    second = wrapper.run("--", "--name", "my run", "--resume", "latest", STAND_IN_STATUS="75").stderr

    assert first.rstrip().endswith(" -- --name 'my run' --resume latest")
    assert second.count("--resume latest") == 1
    log = (wrapper.output / "train_0.log").read_text(encoding="utf-8")
    assert log.count("Train Epoch: 0") == 2
    wrapper.run(STAND_IN_STATUS="75")
    log = (wrapper.output / "train_0.log").read_text(encoding="utf-8")
    assert log.count("Train Epoch: 0") == 1


def test_the_status_of_the_trainer_is_kept_off_the_disk_of_the_results(wrapper: Wrapper, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    wrapper.run(TMPDIR=str(scratch))

    environment = wrapper.recorded()["env"]
    assert isinstance(environment, dict)
    assert scratch in Path(environment["OPEN_CLIP_STATUS_FILE"]).parents
    assert not list(scratch.iterdir())
    assert environment["OPEN_CLIP_STEP_LINES"] == "1"


def test_a_reader_that_leaves_does_not_end_the_training(wrapper: Wrapper) -> None:
    command = " ".join(f"'{word}'" for word in wrapper.command())
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} 2>/dev/null | true"], env=wrapper.environment(), timeout=60
    )

    assert (wrapper.output / f"{CASE}.log").is_file()
    assert done.returncode == 0
