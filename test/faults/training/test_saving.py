"""Saves of real runs: beside the training and in it, by the clock, on a full disk, copied elsewhere."""

import os
import shutil
import subprocess

import pytest

from checkpoint_faults import flip_bit
from pairs import make_pairs, micro_flags
from runs import assert_same_state, load_payload, read_lines, run_trainer, train_losses
from training.main import main

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("data"), 40, 2, name="train.csv")


def flags(data, logs, **extra):
    return micro_flags(data, None, **{"logs_dir": logs, "name": "run", "epochs": 2, "save_every_n_steps": 3, **extra})


def events(run, name):
    return [line["detail"] for line in read_lines(run / "metrics.jsonl") if line.get("event") == name]


def checkpoints(run):
    return sorted(path.name for path in (run / "checkpoints").glob("*.pt"))


def test_saves_beside_the_training_hold_the_state_of_their_step_as_those_in_it_do(data, tmp_path):
    # Two epochs of ten steps; the step files that are left were written while training went on in place.
    for folder, extra in (("beside", {}), ("within", {"no_save_in_background": True})):
        assert main(flags(data, tmp_path / folder, save_frequency=0, **extra)) == 0
    beside, within = tmp_path / "beside" / "run", tmp_path / "within" / "run"
    assert len(events(beside, "checkpoint")) == len(events(within, "checkpoint")) == 7
    assert train_losses(beside) == train_losses(within)
    assert checkpoints(beside) == checkpoints(within) == ["epoch_1_step_18.pt", "epoch_2.pt"]
    for name in checkpoints(beside):
        ours, theirs = (load_payload(run / "checkpoints" / name) for run in (beside, within))
        for key in ("state_dict", "optimizer", "training_state"):
            assert_same_state(ours[key], theirs[key])


def test_a_run_keeps_so_many_epochs(data, tmp_path):
    assert main(flags(data, tmp_path, epochs=4, save_every_n_steps=0, keep_checkpoints=2)) == 0
    assert checkpoints(tmp_path / "run") == ["epoch_3.pt", "epoch_4.pt"]


def test_two_processes_save_by_the_clock_in_the_same_steps(data, tmp_path):
    chosen = {"save_every_n_steps": 0, "save_every_n_minutes": 1e-6, "log_metric_every_n_steps": 2, "batch_size": 4}
    status, output = run_trainer(flags(data, tmp_path, **chosen), processes=2)
    assert status == 0, output
    paths = [event["path"].rpartition("/")[2] for event in events(tmp_path / "run", "checkpoint")]
    steps = [f"epoch_0_step_{step}.pt" for step in (2, 4, 6, 8)]
    assert paths[:5] == [*steps, "epoch_1.pt"]


@pytest.fixture
def disk_of_two_checkpoints(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("in_background", [True, False])
def test_a_full_disk_in_mid_run_is_told_within_the_run_and_the_last_save_ends_it(
    data, disk_of_two_checkpoints, in_background, capfd
):
    # A checkpoint has 41 MB: the third finds no room.
    status = main(flags(data, disk_of_two_checkpoints, no_save_in_background=not in_background))
    output = "".join(capfd.readouterr())
    run = disk_of_two_checkpoints / "run"
    assert status == 4, output
    assert "No space left on device" in output
    assert "Training goes on; free space before the next save." in output
    assert len(events(run, "save_failed")) >= 2
    assert max(train_losses(run)) == 20
    assert not list((run / "checkpoints").glob(".tmp*"))
    assert main([*flags(data, disk_of_two_checkpoints, epochs=1), "--resume", "latest"]) in (0, 4)


def test_a_run_whose_machine_is_gone_goes_on_from_its_remote_copy(data, tmp_path):
    there = {"remote_sync": f"file://{tmp_path}/there", "remote_sync_protocol": "fsspec", "remote_sync_frequency": 1}
    assert main(flags(data, tmp_path / "first", epochs=1, **there)) == 0
    shutil.rmtree(tmp_path / "first")
    assert main(flags(data, tmp_path / "other", **there)) == 2
    assert main([*flags(data, tmp_path / "other", **there), "--resume", "latest"]) == 0
    assert main(flags(data, tmp_path / "whole")) == 0
    assert sorted(train_losses(tmp_path / "other" / "run")) == list(range(1, 21))
    ours, theirs = (load_payload(tmp_path / name / "run/checkpoints/epoch_2.pt") for name in ("other", "whole"))
    assert ours["epoch"] == theirs["epoch"] == 2
    copied = {path.name for path in (tmp_path / "there" / "run").rglob("*") if path.is_file()}
    assert {"out.log", "metrics.jsonl", "epoch_1.pt", "epoch_2.pt", "manifest.json", "report.html"} <= copied


def test_a_checkpoint_of_another_place_is_resumed_by_its_address(data, tmp_path, capfd):
    assert main(flags(data, tmp_path, epochs=1)) == 0
    address = f"file://{tmp_path}/run/checkpoints/epoch_1.pt"
    status, output = run_trainer([*flags(data, tmp_path, name="next", batch_size=4), "--resume", address], processes=2)
    assert status == 0, output
    assert f"fetched {address}" in output
    assert sorted(train_losses(tmp_path / "next")) == list(range(11, 21))
    assert main([*flags(data, tmp_path, name="none"), "--resume", f"file://{tmp_path}/absent.pt"]) == 4
    assert "absent.pt: cannot be fetched" in "".join(capfd.readouterr())


def test_a_first_copy_that_cannot_be_made_ends_the_run_with_4(data, tmp_path, capfd):
    (tmp_path / "file").write_text("no folder")
    there = {"remote_sync": f"file://{tmp_path}/file", "remote_sync_protocol": "fsspec"}
    assert main(flags(data, tmp_path / "logs", **there)) == 4
    assert "the first copy failed" in "".join(capfd.readouterr())


def test_a_changed_checkpoint_is_refused_and_latest_goes_on_from_the_one_before(data, tmp_path, capfd):
    assert main(flags(data, tmp_path)) == 0
    newest = tmp_path / "run" / "checkpoints" / "epoch_2.pt"
    flip_bit(newest, 8 * 1_000_000)
    assert main([*flags(data, tmp_path, name="direct"), "--resume", str(newest)]) == 4
    assert "are not those that were written" in "".join(capfd.readouterr())
    assert main([*flags(data, tmp_path), "--resume", "latest"]) == 0
    output = "".join(capfd.readouterr())
    assert "epoch_2.pt: bytes 0 to" in output
    assert "Trying the one before it" in output
    assert "=> resuming checkpoint" in output


def test_run_folders_of_umask_027_are_closed_to_others(data, tmp_path):
    previous = os.umask(0o027)
    try:
        assert main(flags(data, tmp_path, epochs=1)) == 0
    finally:
        os.umask(previous)
    for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]:
        assert oct(path.stat().st_mode & 0o777) == ("0o750" if path.is_dir() else "0o640"), path
