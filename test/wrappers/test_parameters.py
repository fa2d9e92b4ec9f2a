"""What the wrappers hand to the trainer, and what they refuse."""

import os
import shlex
import socket
import subprocess
from pathlib import Path

import pytest
import torch

from recording_python import REPO_ROOT, Wrapper, make_wrapper
from training.device.precision import PRECISIONS

SCRIPTS = {
    "train_full_1p.sh": (1, 20),
    "train_performance_1p.sh": (1, 2),
    "train_full_8p.sh": (8, 20),
    "train_performance_8p.sh": (8, 2),
}
# ModelZoo's fine-tuning flags, common to its four scripts.
MODELZOO_FLAGS = {
    "--dataset-type": "csv",
    "--csv-img-key": "img_key",
    "--csv-caption-key": "caption_key",
    "--csv-separator": ",",
    "--batch-size": "128",
    "--workers": "8",
    "--warmup": "100",
    "--lr": "5e-5",
    "--wd": "0.1",
    "--log-every-n-steps": "1",
    "--model": "ViT-B-32",
    "--log-format": "modelzoo",
    "--precision": "amp",
}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pairs(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


@pytest.fixture
def wrapper(tmp_path: Path) -> Wrapper:
    return make_wrapper("train_full_1p.sh", tmp_path)


@pytest.fixture
def many(tmp_path: Path) -> Wrapper:
    return make_wrapper("train_full_8p.sh", tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_wrapper_passes_modelzoos_flags(script: str, tmp_path: Path) -> None:
    wrapper = make_wrapper(script, tmp_path)
    ranks, epochs = SCRIPTS[script]

    done = wrapper.run(*([f"--master_port={_free_port()}"] if ranks > 1 else []))

    assert done.returncode == 0, done.stderr
    flags = _pairs(wrapper.trainer_flags())
    assert MODELZOO_FLAGS.items() <= flags.items()
    assert flags["--epochs"] == str(epochs)
    assert flags["--train-data"] == f"{wrapper.data}/flickr30k_train.csv"
    assert flags["--val-data"] == f"{wrapper.data}/flickr30k_test.csv"
    assert flags["--logs-dir"] == f"{wrapper.output}/logs"
    assert "--pretrained" not in flags
    words = wrapper.recorded()["words"]
    assert isinstance(words, list)
    assert ("torch.distributed.run" in words) is (ranks > 1)
    if ranks > 1:
        assert words[words.index("--nproc_per_node") + 1] == str(ranks)


def test_parameters_reach_the_trainer_and_flags_behind_dashes_come_last(wrapper: Wrapper) -> None:
    weights = wrapper.data / "the weights.pt"
    weights.touch()

    words = [f"--data_path={wrapper.data}", f"--pretrain_model={weights}", "--model=ViT-micro-8-32", "--epochs=3"]
    words += ["--batch_size=016", "--lr=1e-3", "--wd=0.2", "--warmup=5", "--precision=npu_amp", "--workers=0"]
    done = wrapper.run(*words, "--", "--seed", "7", "--name", "a run", required=False)

    assert done.returncode == 0, done.stderr
    flags = wrapper.trainer_flags()
    assert flags[-4:] == ["--seed", "7", "--name", "a run"]
    given = _pairs(flags)
    assert given["--pretrained"] == str(weights)
    expected = {"--model": "ViT-micro-8-32", "--epochs": "3", "--batch-size": "16", "--lr": "1e-3", "--wd": "0.2"}
    expected |= {"--warmup": "5", "--precision": "npu_amp", "--workers": "0", "--device": "cpu"}
    assert expected.items() <= given.items()


def test_wrappers_run_through_a_link_from_any_directory(wrapper: Wrapper, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    (elsewhere / "training").mkdir(parents=True)
    link = elsewhere / "go.sh"
    link.symlink_to(wrapper.script)

    command = [
        "bash",
        "go.sh",
        "--data_path=../flickr 30k",
        "--pretrain_model=none",
        "--output_dir=out",
        "--device=cpu",
    ]
    done = subprocess.run(command, cwd=elsewhere, env=wrapper.environment(), capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    record = wrapper.recorded()
    assert record["cwd"] == str(elsewhere)
    assert record["env"]["PYTHONPATH"].split(os.pathsep)[0] == str(REPO_ROOT / "src")  # type: ignore[index]
    assert record["env"]["PYTHONSAFEPATH"] == "1"  # type: ignore[index]
    assert (elsewhere / "out" / "train_0.log").is_file()


@pytest.mark.parametrize(
    "words, status, message",
    [
        (["--modle=x"], 2, "unknown parameter --modle. Did you mean --model?"),
        (["--data_path_x=1"], 2, "unknown parameter --data_path_x. Did you mean --data_path?"),
        (["--nproc_per_node=2"], 2, "unknown parameter --nproc_per_node"),
        (["--epochs"], 2, "--epochs has no value; write --epochs=VALUE"),
        (["--lr="], 2, "--lr has no value"),
        (["epochs=3"], 2, '"epochs=3" is no parameter'),
        (["--epochs=1", "--epochs=2"], 2, "--epochs is given twice"),
        (["--epochs=two"], 2, '--epochs is "two"; it must be a whole number'),
        (["--lr=abc"], 2, '--lr is "abc"; it must be a number'),
        (["--wd=1e"], 2, '--wd is "1e"; it must be a number'),
        (["--lr=-1"], 2, '--lr is "-1"; it must be a number'),
        (["--precision=foo"], 2, '--precision is "foo"; choose one of amp amp_bf16 '),
        (["--precision=amp fp16"], 2, '--precision is "amp fp16"; choose one of'),
        (["--batch_size=0"], 2, "--batch_size is 0"),
        (["--device=gpu"], 2, "choose auto, cpu, cuda or npu"),
        (["--", "--logs", "x"], 2, "use --output_dir=DIR instead of --logs"),
    ],
)
def test_a_wrong_parameter_is_named_in_one_line(wrapper: Wrapper, words: list[str], status: int, message: str) -> None:
    command = [f"--data_path={wrapper.data}", "--pretrain_model=none", *words]

    done = subprocess.run(
        ["bash", str(wrapper.script), *command], env=wrapper.environment(), capture_output=True, text=True, timeout=60
    )

    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not wrapper.record.exists()


def test_required_parameters_and_missing_files_are_named(wrapper: Wrapper, tmp_path: Path) -> None:
    def refusal(*words: str) -> tuple[int, str]:
        done = wrapper.run(*words, required=False)
        assert done.stderr.count("\n") == 1
        return done.returncode, done.stderr

    data = f"--data_path={wrapper.data}"
    status, message = refusal("--pretrain_model=none")
    assert status == 2 and 'para "data_path" must be configured' in message  # noqa: PT018
    status, message = refusal(data)
    assert status == 2 and "--pretrain_model=none" in message  # noqa: PT018
    status, message = refusal("--data_path=/no/such place", "--pretrain_model=none")
    assert status == 3 and "/no/such place is no folder" in message  # noqa: PT018
    status, message = refusal(data, "--pretrain_model=/no/weights.pt")
    assert status == 4 and "/no/weights.pt is no file" in message  # noqa: PT018
    (wrapper.data / "flickr30k_test.csv").unlink()
    status, message = refusal(data, "--pretrain_model=none")
    assert status == 3 and "flickr30k_test.csv" in message and "flickr30k_handle.py" in message  # noqa: PT018


def test_the_hint_for_a_missing_table_can_be_pasted_anywhere(wrapper: Wrapper, tmp_path: Path) -> None:
    (wrapper.data / "flickr30k_train.csv").unlink()

    hint = wrapper.run().stderr.rstrip().partition("make it with: ")[2]
    done = subprocess.run(["bash", "-c", hint], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert shlex.split(hint) == [
        *(str(wrapper.python), str(REPO_ROOT / "tools" / "flickr30k_handle.py"), "--data_path", str(wrapper.data))
    ]
    assert f"no annotation in {wrapper.data}" in done.stderr


@pytest.mark.parametrize("value", ["1", "0.1", "5e-5", "1E+2", ".5", "3."])
def test_every_way_to_write_a_number_is_taken(wrapper: Wrapper, value: str) -> None:
    assert wrapper.run(f"--lr={value}", f"--wd={value}").returncode == 0


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_precision_of_the_trainer_is_taken(wrapper: Wrapper, name: str) -> None:
    assert wrapper.run(f"--precision={name}").returncode == 0


def test_help_lists_every_parameter_and_starts_nothing(many: Wrapper) -> None:
    done = many.run("--help", required=False)

    assert done.returncode == 0
    for name in ("data_path", "pretrain_model", "device_id", "device", "model", "epochs", "batch_size", "output_dir"):
        assert f"--{name}=" in done.stdout
    assert "--nproc_per_node=" in done.stdout
    assert not many.record.exists()


def test_many_processes_share_the_cores_and_meet_where_the_environment_says(many: Wrapper) -> None:
    port = str(_free_port())

    done = many.run("--nproc_per_node=2", NNODES="2", NODE_RANK="1", MASTER_ADDR="192.0.2.7", PORT=port)

    assert done.returncode == 0, done.stderr
    words = many.recorded()["words"]
    assert isinstance(words, list)
    launcher = _pairs(words[words.index("torch.distributed.run") + 1 : words.index("training.main") - 1])
    assert launcher == {
        "--nnodes": "2",
        "--node_rank": "1",
        "--nproc_per_node": "2",
        "--master_addr": "192.0.2.7",
        "--master_port": port,
    }
    assert int(many.recorded()["env"]["OMP_NUM_THREADS"]) >= 1  # type: ignore[index]
    assert "Final result" not in done.stdout


def test_a_port_in_use_stops_before_the_start(many: Wrapper) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        done = many.run(f"--master_port={port}")

    assert done.returncode == 2
    assert f"port {port}: address already in use; choose another with --master_port=N." in done.stderr
    assert done.stderr.count("\n") == 1
    assert not many.record.exists()


def test_no_interpreter_is_one_line(wrapper: Wrapper) -> None:
    done = wrapper.run(PYTHON="/no/python")

    assert done.returncode == 2
    assert 'no Python at "/no/python"' in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a card")
@pytest.mark.parametrize("script", ["train_full_8p.sh", "train_full_8p_pretrain_taskset.sh"])
def test_several_processes_and_no_card_are_refused_unless_the_cpu_is_asked_for(script: str, tmp_path: Path) -> None:
    wrapper = make_wrapper(script, tmp_path)
    words = ["--nproc_per_node=2", f"--master_port={_free_port()}"]

    command = [word for word in wrapper.command(*words) if word != "--device=cpu"]
    environment = wrapper.environment(etp_running_flag="true")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 6
    assert "2 processes were started with --device auto and no card was found (npu: " in done.stderr
    assert "cuda: " in done.stderr
    assert done.stderr.rstrip().endswith("--device=cpu")
    assert done.stderr.count("\n") == 1
    assert not wrapper.output.exists()
