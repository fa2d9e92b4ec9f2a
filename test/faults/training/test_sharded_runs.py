"""Runs whose model is spread over two processes and whose checkpoints are folders: stopped, damaged, gone on with."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from pairs import make_pairs, micro_flags
from runs import kill_group, load_payload, run_trainer, start_trainer, train_losses, wait_for_step
from training.checkpoint import list_checkpoints, read_verified
from training.export import export

pytestmark = [pytest.mark.faults, pytest.mark.slow]
SHARDED = ["--fsdp", "--fsdp-checkpoint", "sharded"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return make_pairs(folder, 40, 2, name="train.csv"), make_pairs(folder, 5, 2, seed=1, name="val.csv")


def flags(data, logs, batch_size=4, **extra):
    chosen = {"logs_dir": logs, "name": "run", "epochs": 1, "save_every_n_steps": 3, "grad_clip_norm": 0.5, **extra}
    return micro_flags(*data, batch_size=batch_size, **chosen)


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    logs = tmp_path_factory.mktemp("uninterrupted")
    status, output = run_trainer([*flags(data, logs), *SHARDED], processes=2)
    assert status == 0, output
    checkpoints = logs / "run" / "checkpoints"
    export(checkpoints / "epoch_1")
    return logs / "run"


def test_a_stopped_run_passes_over_a_damaged_folder_and_ends_bit_for_bit(data, uninterrupted, tmp_path):
    process = start_trainer([*flags(data, tmp_path), *SHARDED], processes=2)
    wait_for_step(tmp_path / "run", 4, process)
    kill_group(process, signal.SIGTERM)
    checkpoints = tmp_path / "run" / "checkpoints"
    newest = max(checkpoints.glob("epoch_0_step_*"), key=lambda path: int(path.name.rpartition("_")[2]))
    assert newest.name != "epoch_0_step_3"
    content = bytearray((newest / "__1_0.distcp").read_bytes())
    content[len(content) // 3] ^= 4
    (newest / "__1_0.distcp").write_bytes(content)
    # What a kill inside a save leaves.
    shutil.copytree(newest, checkpoints / ".tmp-epoch_1-77")
    status, output = run_trainer([*flags(data, tmp_path), *SHARDED, "--resume", "latest"], processes=2)
    assert status == 0, output
    assert f"{newest.name}/__1_0.distcp: its content is not what was written" in output
    assert "=> resuming checkpoint" in output
    assert not list(checkpoints.glob(".tmp-*"))
    assert train_losses(tmp_path / "run") == train_losses(uninterrupted)
    ours = load_payload(export(checkpoints / "epoch_1"))
    theirs = load_payload(uninterrupted / "checkpoints" / "epoch_1.pt")
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name


@pytest.mark.parametrize(
    "processes,extra", [(1, []), (4, SHARDED), (2, [])], ids=["one process", "four with fsdp", "two with ddp"]
)
def test_a_folder_goes_on_in_another_kind_of_run(data, uninterrupted, tmp_path, processes, extra):
    run = tmp_path / "run"
    folder = next((uninterrupted / "checkpoints").glob("epoch_0_step_*"))
    shutil.copytree(folder, run / "checkpoints" / folder.name)
    words = flags(data, tmp_path, batch_size=8 // processes)
    status, output = run_trainer([*words, *extra, "--resume", "latest"], processes=processes)
    assert status == 0, output
    losses = train_losses(run)
    assert min(losses) == int(folder.name.rpartition("_")[2]) + 1
    whole = train_losses(uninterrupted)
    assert losses == pytest.approx({step: whole[step] for step in losses}, rel=2e-6)
    end = run / "checkpoints" / "epoch_1.pt"
    ours = load_payload(end if end.exists() else export(run / "checkpoints" / "epoch_1"))["state_dict"]
    for name, value in load_payload(uninterrupted / "checkpoints" / "epoch_1.pt")["state_dict"].items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=2e-6, msg=name)


def test_kills_leave_nothing_but_whole_folders_and_temporary_ones(data, tmp_path):
    for trial in range(3):
        name = f"run{trial}"
        words = flags(data, tmp_path, name=name, save_every_n_steps=1, epochs=20)
        process = start_trainer([*words, *SHARDED], processes=2)
        wait_for_step(tmp_path / name, 3 + trial, process)
        time.sleep(random.Random(trial).random() * 0.2)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(workers) == 2
        for worker in workers:
            os.kill(int(worker), signal.SIGKILL)
        process.communicate(timeout=60)
        found = list_checkpoints(tmp_path / name / "checkpoints")
        assert found
        for folder in found:
            assert read_verified(folder)["global_step"] == int(folder.name.rpartition("_")[2])
