"""What the wrappers leave behind: status, log, result files; signals and terminals."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recording_python import Wrapper, make_wrapper, write_run
from runs import free_port

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


def test_on_a_terminal_the_trainer_has_it_and_writes_the_log_itself(wrapper: Wrapper) -> None:
    controller, terminal = pty.openpty()
    environment = wrapper.environment()
    (wrapper.output / "logs").mkdir(parents=True)
    (wrapper.output / "train_0.log").write_text("of the run before\n", encoding="utf-8")
    process = subprocess.Popen(wrapper.command(), env=environment, stdout=subprocess.PIPE, stderr=terminal, text=True)
    os.close(terminal)
    process.communicate(timeout=60)
    seen = b""
    while select.select([controller], [], [], 0.2)[0]:
        try:
            seen += os.read(controller, 4096)
        except OSError:
            break
    os.close(controller)

    assert b"step 1" in seen
    # What goes to the terminal does not come by the wrapper; the trainer writes into the log of this run by itself.
    assert sorted((wrapper.output / "train_0.log").read_text(encoding="utf-8").splitlines()) == [
        "2026-01-01,00:00:00 | INFO | Train Epoch: 0",
        "terminals False True",
    ]


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


@pytest.mark.parametrize("status", [1, 3, 5, 6, 75, 137])
def test_a_run_that_left_a_checkpoint_says_how_to_go_on(wrapper: Wrapper, status: int) -> None:
    _leave_checkpoint(wrapper)

    done = wrapper.run(STAND_IN_STATUS=str(status), STAND_IN_RUN="my-run")

    assert done.stderr.rstrip().endswith(" -- --name my-run --resume latest")
    assert "Go on with the wrapper: bash " in done.stderr
    assert str(wrapper.script) in done.stderr


def test_a_usage_error_and_a_run_without_a_checkpoint_do_not_say_how_to_go_on(wrapper: Wrapper) -> None:
    write_run(wrapper.output / "logs" / "my-run", batch=128, ranks=1)
    assert "Go on" not in wrapper.run(STAND_IN_STATUS="1", STAND_IN_RUN="my-run").stderr

    _leave_checkpoint(wrapper, "other")
    assert "Go on" not in wrapper.run(STAND_IN_STATUS="2", STAND_IN_RUN="other").stderr
    assert "Go on" not in wrapper.run(STAND_IN_FAILS_EARLY="4", STAND_IN_RUN="other").stderr


def test_a_terminal_that_is_gone_does_not_change_the_status(wrapper: Wrapper, tmp_path: Path) -> None:
    _leave_checkpoint(wrapper)
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        wrapper.command(),
        env=wrapper.environment(STAND_IN_SLEEP=str(tmp_path / "ready"), STAND_IN_RUN="my-run"),
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    )
    os.close(terminal)
    _wait_for(tmp_path / "ready")
    os.close(controller)
    process.terminate()

    assert process.wait(30) == 75


def test_going_on_keeps_the_log_and_says_the_same_command_again(wrapper: Wrapper) -> None:
    _leave_checkpoint(wrapper, "my run")
    stopped = {"STAND_IN_STATUS": "75", "STAND_IN_RUN": "my run"}
    first = wrapper.run(**stopped).stderr.rpartition("Go on with the wrapper: ")[2]

    second = wrapper.run("--", "--name", "my run", "--resume", "latest", **stopped).stderr

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


def test_a_reader_that_leaves_does_not_end_the_training(wrapper: Wrapper) -> None:
    command = " ".join(f"'{word}'" for word in wrapper.command())
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} 2>/dev/null | true"], env=wrapper.environment(), timeout=60
    )

    assert (wrapper.output / f"{CASE}.log").is_file()
    assert done.returncode == 0


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("status", [1, 2, 3, 4, 6, 75])
def test_a_start_that_fails_leaves_the_results_and_the_log_of_the_run_before(wrapper: Wrapper, status: int) -> None:
    assert wrapper.run().returncode == 0
    before = _content(wrapper.output)
    assert {f"{CASE}.log", f"{CASE}_perf_report.log", f"train_{CASE}_loss.txt", "train_0.log"} <= before.keys()

    done = wrapper.run(STAND_IN_FAILS_EARLY=str(status))

    assert done.returncode == status
    after = _content(wrapper.output)
    assert b"Train Epoch" in after.pop("train_0.start.log")
    assert after == before
    assert (f"its output is in {wrapper.output}/train_0.start.log" in done.stderr) is (status != 75)
    # The next one that begins has the log to itself.
    assert wrapper.run(STAND_IN_STATUS="5").returncode == 5
    assert sorted(_content(wrapper.output)) == ["train_0.log"]


def test_a_finished_run_resumed_is_0_and_keeps_its_results(wrapper: Wrapper) -> None:
    assert wrapper.run().returncode == 0
    before = _content(wrapper.output)
    for name in (f"{CASE}_perf_report.log", f"train_{CASE}_loss.txt"):
        (wrapper.output / name).unlink()
    longer = before[f"{CASE}.log"].replace(b"E2ETrainingTime = 99", b"E2ETrainingTime = 123")
    (wrapper.output / f"{CASE}.log").write_bytes(longer)

    done = wrapper.run("--", "--name", "run-1", "--resume", "latest", STAND_IN_IS_DONE="1")

    assert done.returncode == 0, done.stderr
    assert "Final Performance images/sec : 426" in done.stdout
    assert "E2E Training Duration sec : 123" in done.stdout
    after = _content(wrapper.output)
    assert after[f"train_{CASE}_loss.txt"] == before[f"train_{CASE}_loss.txt"]
    assert after[f"{CASE}.log"] == longer
    assert after["train_0.log"].startswith(before["train_0.log"])


def test_two_wrappers_do_not_share_an_output_folder(wrapper: Wrapper, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    environment = wrapper.environment(STAND_IN_SLEEP=str(ready))
    first = subprocess.Popen(wrapper.command(), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _wait_for(ready)
    before = _content(wrapper.output)

    second = wrapper.run()

    assert second.returncode == 2
    assert f"{wrapper.output}/train_0.log: another run is writing this log" in second.stderr
    assert "Traceback" not in second.stderr
    assert _content(wrapper.output) == before
    first.terminate()
    first.communicate(timeout=30)
    assert first.returncode == 75
    assert wrapper.run().returncode == 0


def test_a_killed_wrapper_takes_its_trainer_along(wrapper: Wrapper, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = subprocess.Popen(
        wrapper.command(),
        env=wrapper.environment(STAND_IN_SLEEP=str(ready), STAND_IN_SIGNALS=str(tmp_path / "signals")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait_for(ready)

    process.kill()
    process.wait(30)

    _wait_for(tmp_path / "signals")
    assert (tmp_path / "signals").read_text(encoding="utf-8") == f"{[int(signal.SIGTERM)]}"


@pytest.mark.parametrize("place", ["a file", "/proc/1/here"])
def test_an_output_folder_that_cannot_be_made_is_named(wrapper: Wrapper, tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").touch()
    output = tmp_path / place

    done = subprocess.run(
        [word if not word.startswith("--output_dir") else f"--output_dir={output}" for word in wrapper.command()],
        env=wrapper.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    assert str(output) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_summary_that_fails_leaves_a_sound_run_and_the_command_that_writes_it(wrapper: Wrapper) -> None:
    (wrapper.output / f"{CASE}_perf_report.log").mkdir(parents=True)
    (wrapper.output / f"{CASE}_perf_report.log" / "in the way").touch()

    done = wrapper.run(STAND_IN_RUN="my-run")

    assert done.returncode == 1
    assert "the results could not be written" in done.stderr
    assert "The run itself is sound. Write them with: " in done.stderr
    assert "Traceback" not in done.stderr
    (wrapper.output / f"{CASE}_perf_report.log" / "in the way").unlink()
    (wrapper.output / f"{CASE}_perf_report.log").rmdir()
    command = done.stderr.rpartition("Write them with: ")[2].strip()
    subprocess.run(["bash", "-c", command], check=True, timeout=60, env=wrapper.environment(PYTHONPATH="src"))
    assert (wrapper.output / f"{CASE}_perf_report.log").is_file()


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_torchrun_is_imported_is_75_and_changes_nothing(tmp_path: Path, number: signal.Signals) -> None:
    wrapper = make_wrapper("train_performance_8p.sh", tmp_path)
    wrapper.output.mkdir()
    (wrapper.output / "train_0.log").write_text("of the run before\n", encoding="utf-8")
    # Stands in for the interpreter: it dies of the signal as one does that is still importing torch.
    python = tmp_path / "importing python"
    python.write_text(
        f"""#!/usr/bin/env bash
if [[ "$1 $2" == "-u -m" ]]; then
    touch {tmp_path}/ready
    exec {sys.executable} -c 'import time; time.sleep(60)'
fi
exec {sys.executable} "$@"
""",
        encoding="utf-8",
    )
    python.chmod(0o755)
    process = subprocess.Popen(
        wrapper.command("--nproc_per_node=1", f"--master_port={free_port()}"),
        env=wrapper.environment(PYTHON=str(python)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _wait_for(tmp_path / "ready")
    time.sleep(1.0)  # bash becomes the interpreter
    process.send_signal(number)
    _, said = process.communicate(timeout=30)

    assert process.returncode == 75
    # Before it stands Python's own traceback of a Ctrl-C.
    assert said.endswith("[Error] stopped before training began. The same command starts it.\n")
    assert (wrapper.output / "train_0.log").read_text(encoding="utf-8") == "of the run before\n"
