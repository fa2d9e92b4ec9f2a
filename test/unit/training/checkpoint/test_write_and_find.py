import os
import resource
import signal

import pytest
import torch

from open_clip.errors import CheckpointError
from training.checkpoint import Keeper, list_checkpoints, read_newest, write_checkpoint
from training.checkpoint.digest import digest_file


def payload(epoch, step=0, size=10):
    return {"epoch": epoch, "global_step": step, "state_dict": {"w": torch.full((size,), float(epoch))}}


def test_names_order_by_epoch_then_step_whatever_the_spelling(tmp_path):
    for name in (
        "epoch_10.pt",
        "epoch_9.pt",
        "epoch_9_step_120.pt",
        "epoch_9_step_20.pt",
        "other.pt",
        ".tmp-epoch_99.pt-1",
    ):
        (tmp_path / name).touch()
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ["epoch_9.pt", "epoch_9_step_20.pt", "epoch_9_step_120.pt", "epoch_10.pt"]


def test_epoch_latest_stands_after_what_was_written_before_it(tmp_path):
    for place, name in enumerate(("epoch_1.pt", "epoch_latest.pt", "epoch_3_step_9.pt")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 + place, 1000 + place))
    assert [p.name for p in list_checkpoints(tmp_path)] == ["epoch_1.pt", "epoch_latest.pt", "epoch_3_step_9.pt"]


def test_a_full_disk_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "epoch_1.pt"
    write_checkpoint(payload(1), path)
    before = path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limit[1]))
    try:
        with pytest.raises(CheckpointError, match=r"could not write .*epoch_1\.pt"):
            write_checkpoint(payload(1, size=1_000_000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["epoch_1.pt"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="absent"):
        write_checkpoint(payload(1), tmp_path / "absent" / "epoch_1.pt")


def test_leftovers_of_a_killed_save_are_removed_at_the_next_start(tmp_path):
    (tmp_path / ".tmp-epoch_3.pt-77").write_bytes(b"half")
    Keeper(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_step_checkpoints_are_kept_and_none_once_two_epochs_are_there(tmp_path):
    keeper = Keeper(tmp_path)
    for step in (10, 20, 30):
        keeper.save_step(payload(0, step))
    assert [p.name for p in list_checkpoints(tmp_path)] == ["epoch_0_step_20.pt", "epoch_0_step_30.pt"]
    keeper.save_epoch(payload(1, 40))
    assert [p.name for p in list_checkpoints(tmp_path)] == ["epoch_0_step_30.pt", "epoch_1.pt"]
    assert keeper.newest == tmp_path / "epoch_1.pt"
    keeper.save_step(payload(1, 50))
    keeper.save_epoch(payload(2, 80))
    assert [p.name for p in list_checkpoints(tmp_path)] == ["epoch_1.pt", "epoch_2.pt"]


def test_so_many_newest_epochs_are_kept(tmp_path):
    keeper = Keeper(tmp_path, keep_epochs=2)
    for epoch in (1, 2, 10, 11):
        keeper.save_epoch(payload(epoch))
    assert [p.name for p in list_checkpoints(tmp_path)] == ["epoch_10.pt", "epoch_11.pt"]


def test_nothing_is_deleted_when_the_disk_gives_back_other_bytes(tmp_path, monkeypatch):
    keeper = Keeper(tmp_path, keep_epochs=2)
    for epoch in (1, 2):
        keeper.save_epoch(payload(epoch))

    def rotten(path, *, from_disk=False):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
        return digest_file(path, from_disk=from_disk)

    monkeypatch.setattr("training.checkpoint.keeper.digest_file", rotten)
    with pytest.raises(CheckpointError, match="the disk gave back other bytes"):
        keeper.save_epoch(payload(3))
    assert [p.name for p in list_checkpoints(tmp_path)] == ["epoch_1.pt", "epoch_2.pt"]
    assert read_newest(tmp_path, pytest.fail)[1]["epoch"] == 2


def test_delete_previous_removes_the_epoch_before_only_after_the_new_one(tmp_path):
    keeper = Keeper(tmp_path, delete_previous=True, save_most_recent=True)
    for epoch in (1, 2, 3):
        keeper.save_epoch(payload(epoch))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch_3.pt", "epoch_latest.pt", "manifest.json"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_latest_falls_back_to_the_newest_good_one_and_says_so(tmp_path, damage):
    keeper = Keeper(tmp_path)
    keeper.save_epoch(payload(1, size=1000))
    keeper.save_epoch(payload(2, size=1000))
    path = tmp_path / "epoch_2.pt"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        content = content[:-500]
    elif damage == "flip":
        content[len(content) // 2] ^= 4
    else:
        content = bytearray()
    path.write_bytes(bytes(content))
    messages = []
    found, state = read_newest(tmp_path, messages.append)
    assert found.name == "epoch_1.pt"
    assert state["epoch"] == 1
    assert len(messages) == 1
    assert "epoch_2.pt" in messages[0]


def test_no_good_checkpoint_at_all_is_an_error_and_no_checkpoint_is_none(tmp_path):
    assert read_newest(tmp_path, print) is None
    (tmp_path / "epoch_1.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints"):
        read_newest(tmp_path, lambda message: None)
