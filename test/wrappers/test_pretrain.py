"""The pretraining wrappers: what they hand to the trainer, and one pinned process a device."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from recording_python import Wrapper, make_wrapper

# Processes and epochs of each.
SCRIPTS = {
    "train_full_1p_pretrain.sh": (1, 5),
    "train_full_8p_pretrain.sh": (8, 5),
    "train_full_8p_pretrain_taskset.sh": (8, 5),
    "train_performance_1p_pretrain.sh": (1, 3),
    "train_performance_8p_pretrain.sh": (8, 3),
}
# ModelZoo's pretraining flags, common to its five scripts; learning rate and weight decay are the trainer's.
MODELZOO_FLAGS = {
    "--dataset-type": "webdataset",
    "--train-num-samples": "5000000",
    "--batch-size": "320",
    "--workers": "8",
    "--warmup": "1000",
    "--log-every-n-steps": "1",
    "--model": "ViT-B-32",
    "--log-format": "modelzoo",
    "--precision": "amp",
}


def free_port() -> str:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def pinned(tmp_path: Path) -> Wrapper:
    return make_wrapper("train_full_8p_pretrain_taskset.sh", tmp_path)


def _flags(record: dict[str, object]) -> dict[str, str]:
    words = record["words"]
    assert isinstance(words, list)
    flags = words[words.index("training.main") + 1 :]
    return dict(zip(flags[::2], flags[1::2], strict=True))


def _place(record: dict[str, object]) -> dict[str, str]:
    place = record["env"]
    assert isinstance(place, dict)
    return place


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_wrapper_passes_modelzoos_flags(script: str, tmp_path: Path) -> None:
    wrapper = make_wrapper(script, tmp_path)
    ranks, epochs = SCRIPTS[script]

    done = wrapper.run(*([f"--master_port={free_port()}"] if ranks > 1 else []))

    assert done.returncode == 0, done.stderr
    record = wrapper.recorded(0 if "taskset" in script else None)
    flags = _flags(record)
    assert MODELZOO_FLAGS.items() <= flags.items()
    assert flags["--epochs"] == str(epochs)
    # The braces are the trainer's to expand.
    assert flags["--train-data"] == f"{wrapper.data}/{{00000..00499}}.tar"
    assert flags.keys().isdisjoint({"--lr", "--wd", "--val-data", "--imagenet-val", "--pretrained"})
    words = record["words"]
    assert isinstance(words, list)
    assert ("torch.distributed.run" in words) is (ranks > 1 and "taskset" not in script)


def test_a_finished_run_leaves_modelzoos_files(tmp_path: Path) -> None:
    wrapper = make_wrapper("train_full_1p_pretrain.sh", tmp_path)

    done = wrapper.run("--case_name=mine")

    values = dict(line.split(" = ") for line in (wrapper.output / "mine.log").read_text("utf-8").splitlines())
    assert values["TrainLoss"] == values["ActualLoss"] == "1.2500"
    assert "TrainAccuracy" not in values
    assert values["ActualFPS"] == "426"  # 128 / 0.3: of the last 100 steps, as for every job
    assert "Train loss : 1.2500" in done.stdout
    assert (wrapper.output / "mine_perf_report.log").is_file()
    assert (wrapper.output / "train_mine_loss.txt").is_file()


def test_validation_data_and_image_classes_may_be_added(tmp_path: Path) -> None:
    wrapper = make_wrapper("train_performance_1p_pretrain.sh", tmp_path)

    done = wrapper.run("--val_data=val/{0..3}.tar", "--imagenet_val=the classes", "--lr=1e-3", "--wd=0.1")

    assert done.returncode == 0, done.stderr
    flags = _flags(wrapper.recorded())
    assert flags["--val-data"] == "val/{0..3}.tar"
    assert flags["--imagenet-val"] == "the classes"
    assert (flags["--lr"], flags["--wd"]) == ("1e-3", "0.1")


@pytest.mark.parametrize(
    "words, message",
    [
        (["--train_num_samples=9"], 'para "train_data" must be configured'),
        (["--train_data=a.tar"], 'para "train_num_samples" must be configured'),
        (["--train_data=a.tar", "--train_num_samples=0"], "--train_num_samples is 0"),
        (["--train_data=a.tar", "--train_num_samples=9e5"], '--train_num_samples is "9e5"'),
        (["--train_data=0.tar", "--train_data=1.tar"], "Put quotes around a pattern"),
        (["--train_date=a.tar"], "Did you mean --train_data?"),
        (["--data_path=a"], "unknown parameter --data_path"),
    ],
)
def test_a_wrong_parameter_is_named_in_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    wrapper = make_wrapper("train_full_1p_pretrain.sh", tmp_path)

    done = wrapper.run(*words, required=False)

    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("nodes, node", [("two", "0"), ("0", "0"), ("2", "2"), ("2", "-1"), ("2", "x"), ("1", "01")])
@pytest.mark.parametrize("script", ["train_full_8p.sh", "train_full_8p_pretrain_taskset.sh"])
def test_a_machine_outside_the_machines_is_refused(script: str, nodes: str, node: str, tmp_path: Path) -> None:
    done = make_wrapper(script, tmp_path).run(NNODES=nodes, NODE_RANK=node, PORT=free_port())

    assert done.returncode == 2
    assert "in the environment" in done.stderr


def test_each_process_is_pinned_and_told_its_place(pinned: Wrapper) -> None:
    port, mine = free_port(), sorted(os.sched_getaffinity(0))

    done = pinned.run("--nproc_per_node=2", f"--master_port={port}", OMP_NUM_THREADS="", etp_running_flag="true")

    assert done.returncode == 0, done.stderr
    seen = []
    for rank in range(2):
        record = pinned.recorded(rank)
        place = _place(record)
        expected = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        expected |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONSAFEPATH": "1", "CPU_AFFINITY_CONF": "0"}
        assert expected.items() <= place.items()
        cores = record["cores"]
        assert isinstance(cores, list)
        assert int(place["OMP_NUM_THREADS"]) == len(cores)
        seen += cores
    assert set(seen) == set(mine)
    assert len(seen) == max(2, len(mine))
    # The first speaks in the log of the run, the other in one of its own.
    assert "process 1 on cores" in (pinned.output / "train_0.log").read_text("utf-8")
    for rank in range(2):
        assert (pinned.output / f"train_{rank}.log").read_text("utf-8").count("Train Epoch: 0") == 1
    assert done.stdout.count("Train Epoch: 0") == 1


def test_lists_of_ones_own_pin_the_processes(pinned: Wrapper) -> None:
    core = min(os.sched_getaffinity(0))

    done = pinned.run("--nproc_per_node=2", f"--master_port={free_port()}", f"--cpu_lists={core};{core}")

    assert done.returncode == 0, done.stderr
    assert [pinned.recorded(rank)["cores"] for rank in range(2)] == [[core], [core]]
    assert "[Warning] 2 processes on 1 cores: up to 2 share one." in done.stdout


def test_lists_that_do_not_fit_are_refused(pinned: Wrapper) -> None:
    done = pinned.run("--nproc_per_node=2", f"--master_port={free_port()}", "--cpu_lists=0")

    assert done.returncode == 2
    assert "--cpu_lists has 1 lists for 2 processes" in done.stderr


def test_a_log_that_cannot_be_written_ends_all_processes(pinned: Wrapper) -> None:
    (pinned.output / "train_1.log").mkdir(parents=True)

    done = pinned.run("--nproc_per_node=2", f"--master_port={free_port()}", STAND_IN_SLEEP=str(pinned.record))

    assert done.returncode == 2
    assert "train_1.log: Is a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_second_machine_counts_on_and_claims_no_result(pinned: Wrapper) -> None:
    done = pinned.run("--nproc_per_node=2", NNODES="3", NODE_RANK="1", MASTER_ADDR="192.0.2.7", PORT="29999")

    assert done.returncode == 0, done.stderr
    expected = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "6", "MASTER_ADDR": "192.0.2.7", "MASTER_PORT": "29999"}
    assert expected.items() <= _place(pinned.recorded(3)).items()
    assert sorted(path.name for path in pinned.output.iterdir()) == ["train_2.log", "train_3.log"]
    assert "Final result" not in done.stdout


@pytest.mark.parametrize("status, seen", [(5, 5), (3, 3), (-9, 137)])
def test_the_status_of_the_first_that_fails_is_the_runs(pinned: Wrapper, status: int, seen: int) -> None:
    stand_in = {"STAND_IN_STATUS_1": str(status), "STAND_IN_SLEEP": str(pinned.record.parent / "ready")}

    started = time.monotonic()
    done = pinned.run("--nproc_per_node=2", f"--master_port={free_port()}", **stand_in)

    # The other one sleeps until it is asked to stop, and then says 75.
    assert done.returncode == seen
    assert time.monotonic() - started < 30
    assert f"process 1 ended first, with status {seen}; see {pinned.output}/train_1.log" in done.stderr


def test_a_request_to_stop_reaches_all_processes_once(pinned: Wrapper, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = subprocess.Popen(
        pinned.command("--nproc_per_node=2", f"--master_port={free_port()}"),
        env=pinned.environment(STAND_IN_SLEEP=str(ready)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not all(Path(f"{ready}{rank}").exists() for rank in range(2)) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)

    assert process.returncode == 75
    for rank in range(2):
        assert f"signals [{int(signal.SIGTERM)}]" in (pinned.output / f"train_{rank}.log").read_text("utf-8")
