"""A save that is killed or runs out of disk at any of its calls to the system harms nothing."""

import os
import shutil
import subprocess

import pytest
import torch

from checkpoint_faults import die_before_call, small_payload
from open_clip.errors import CheckpointError
from training.checkpoint import Keeper, list_checkpoints, read_newest, read_verified

torch.set_num_threads(1)
pytestmark = pytest.mark.faults


def make_folder(path):
    """Three epochs, the newest twice: the next save writes two files, one of them over an old one, and deletes one."""
    keeper = Keeper(path, save_most_recent=True)
    for epoch in (1, 2, 3):
        keeper.save_epoch(small_payload(epoch, 10 * epoch))
    keeper.save_step(small_payload(3, 35))


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".tmp")]


def test_a_kill_between_any_two_calls_of_a_save_leaves_only_good_checkpoints(tmp_path):
    before = tmp_path / "before"
    make_folder(before)
    epochs, torn = [], 0
    for number in range(1, 1000):
        folder = tmp_path / "checkpoints"
        shutil.copytree(before, folder)

        def save(folder=folder):
            Keeper(folder, save_most_recent=True, keep_epochs=2).save_epoch(small_payload(4, 40))

        was_killed = die_before_call(number, save)
        torn += bool(leftovers(folder))
        Keeper(folder)
        assert not leftovers(folder)
        for path in list_checkpoints(folder):
            assert read_verified(path)["epoch"] >= 1
        epochs.append(read_newest(folder, pytest.fail)[1]["epoch"])
        assert len(list_checkpoints(folder)) >= 3
        shutil.rmtree(folder)
        if not was_killed:
            break
    assert not was_killed
    assert epochs == sorted(epochs)
    assert (epochs[0], epochs[-1]) == (3, 4)
    assert number > 60
    assert torn > 40


def test_after_a_kill_the_next_save_works_as_ever(tmp_path):
    for number in (5, 20, 30, 40):
        folder = tmp_path / f"run-{number}"
        make_folder(folder)
        die_before_call(number, lambda folder=folder: Keeper(folder).save_epoch(small_payload(4, 40)))
        Keeper(folder, keep_epochs=2).save_epoch(small_payload(5, 50))
        assert read_newest(folder, pytest.fail)[1]["epoch"] == 5


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up_at_any_place_of_a_save_costs_that_save_only(small_disk):
    keeper = Keeper(small_disk / "checkpoints")
    keeper.save_epoch(small_payload(1, 10, size=20_000))
    needed = (small_disk / "checkpoints" / "epoch_1.pt").stat().st_size
    ballast = small_disk / "ballast"
    refused = 0
    for free in range(0, needed + 40_000, 12_288):
        status = os.statvfs(small_disk)
        ballast.write_bytes(b"\0" * max(0, status.f_bavail * status.f_frsize - free))
        failure = ""
        try:
            keeper.save_step(small_payload(1, 20 + refused, size=20_000))
        except CheckpointError as error:
            failure = str(error)
        ballast.unlink()
        if not failure:
            break
        refused += 1
        assert "No space left" in failure
        assert [path.name for path in list_checkpoints(small_disk / "checkpoints")] == ["epoch_1.pt"]
        assert not leftovers(small_disk / "checkpoints")
        assert read_newest(small_disk / "checkpoints", pytest.fail)[1]["epoch"] == 1
    assert refused > 20
    assert read_newest(small_disk / "checkpoints", pytest.fail)[1]["global_step"] == 20 + refused


def test_no_file_of_a_save_is_readable_by_others_under_umask_027(tmp_path):
    previous = os.umask(0o027)
    (tmp_path / "run").mkdir()
    try:
        Keeper(tmp_path / "run" / "checkpoints", save_most_recent=True).save_epoch(small_payload(1))
    finally:
        os.umask(previous)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "run").rglob("*")}
    assert modes == {
        "checkpoints": "0o750",
        "epoch_1.pt": "0o640",
        "epoch_latest.pt": "0o640",
        "manifest.json": "0o640",
    }
