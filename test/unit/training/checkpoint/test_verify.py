"""A checkpoint is used only if every byte is what was written."""

import json
import random
import shutil

import pytest
import torch

from checkpoint_faults import flip_bit, small_payload
from open_clip.errors import CheckpointError
from runs import assert_same_state
from training.checkpoint import Keeper, Manifest, read_newest, read_verified, write_checkpoint
from training.checkpoint.digest import PIECE_BYTES, RunningDigest, digest_file


@pytest.fixture
def folder(tmp_path):
    keeper = Keeper(tmp_path)
    for epoch in (1, 2):
        keeper.save_epoch(small_payload(epoch, 10 * epoch))
    return tmp_path


def test_a_record_says_what_was_written_and_by_whom(folder):
    (record,) = Manifest(folder).of("epoch_2.pt")
    assert record.size == (folder / "epoch_2.pt").stat().st_size
    assert record.digest == digest_file(folder / "epoch_2.pt")
    assert (record.epoch, record.step, record.samples_seen) == (2, 20, 160)
    assert record.torch == torch.__version__
    assert record.time > 1e9


def test_the_digest_of_a_stream_is_that_of_the_file_however_it_is_cut(tmp_path):
    content = random.Random(0).randbytes(1 << 20) * (PIECE_BYTES // (1 << 20) + 1)
    running = RunningDigest()
    for start, end in ((0, 7), (7, 5_000_000), (5_000_000, len(content) - 1), (len(content) - 1, len(content))):
        running.update(memoryview(content)[start:end])
    (tmp_path / "file").write_bytes(content)
    assert running.finish() == digest_file(tmp_path / "file", from_disk=True)
    assert len(running.finish().sha256) == 2
    assert RunningDigest().finish() == digest_file_of(b"", tmp_path)


def digest_file_of(content, folder):
    (folder / "other").write_bytes(content)
    return digest_file(folder / "other")


def test_a_sound_file_is_read_with_and_without_a_record(folder):
    assert_same_state(read_verified(folder / "epoch_2.pt"), small_payload(2, 20))
    (folder / "manifest.json").unlink()
    assert_same_state(read_verified(folder / "epoch_2.pt"), small_payload(2, 20))


def test_of_a_thousand_damages_each_is_found_and_named_with_file_and_field(folder):
    path, rng = folder / "epoch_2.pt", random.Random(1)
    sound = path.read_bytes()
    for trial in range(1000):
        if trial % 10 == 0:
            path.write_bytes(sound[: rng.randrange(len(sound))])
        elif trial % 10 == 1:
            shutil.copy(folder / "epoch_1.pt", path)
        else:
            path.write_bytes(sound)
            flip_bit(path, rng.randrange(8 * len(sound)))
        with pytest.raises(CheckpointError, match=r"epoch_2\.pt: .*(size is|sha256|is empty)"):
            read_verified(path)
    path.write_bytes(sound)
    assert read_verified(path)["epoch"] == 2


def test_a_swapped_file_is_called_by_its_name(folder):
    shutil.copy(folder / "epoch_1.pt", folder / "epoch_2.pt")
    with pytest.raises(CheckpointError, match=r"epoch_2\.pt: it holds what was written as epoch_1\.pt"):
        read_verified(folder / "epoch_2.pt")


def test_the_damaged_bytes_are_named(folder):
    flip_bit(folder / "epoch_2.pt", 8 * 1000)
    size = (folder / "epoch_2.pt").stat().st_size
    with pytest.raises(CheckpointError, match=f"bytes 0 to {size} are not those that were written"):
        read_verified(folder / "epoch_2.pt")


def test_no_advice_is_to_switch_the_checks_off(folder):
    flip_bit(folder / "epoch_2.pt", 8 * 1000)
    with pytest.raises(CheckpointError) as caught:
        read_verified(folder / "epoch_2.pt")
    assert "weights_only" not in str(caught.value)
    assert "if you replaced it yourself" in str(caught.value)


def test_latest_passes_over_a_swapped_file(folder):
    shutil.copy(folder / "epoch_1.pt", folder / "epoch_2.pt")
    messages = []
    path, payload = read_newest(folder, messages.append)
    assert (path.name, payload["epoch"], len(messages)) == ("epoch_1.pt", 1, 1)


def test_a_damaged_manifest_condemns_no_checkpoint(folder, caplog):
    content = bytearray((folder / "manifest.json").read_bytes())
    for place in range(0, len(content), 7):
        damaged = content.copy()
        damaged[place] ^= 4
        (folder / "manifest.json").write_bytes(bytes(damaged))
        assert read_newest(folder, pytest.fail)[1]["epoch"] == 2
    assert "manifest.json is not used" in caplog.text


@pytest.mark.parametrize("content", ["", "[]", "null", '{"files": 3, "check": ""}', '{"schema": 1}', "\x00"])
def test_a_manifest_of_any_content_is_no_obstacle(folder, content):
    (folder / "manifest.json").write_text(content)
    assert read_newest(folder, pytest.fail)[1]["epoch"] == 2
    Keeper(folder).save_epoch(small_payload(3, 30))
    assert list(json.loads((folder / "manifest.json").read_text())["files"]) == ["epoch_3.pt"]


def test_a_file_without_a_record_is_held_to_the_checksums_inside_it(folder):
    write_checkpoint(small_payload(9), folder / "epoch_9.pt")
    assert read_newest(folder, pytest.fail)[1]["epoch"] == 9
    content = (folder / "epoch_9.pt").read_bytes()
    flip_bit(folder / "epoch_9.pt", 8 * content.index(b"\x00\x00\x80\x3f" * 20))
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        read_verified(folder / "epoch_9.pt")


def test_records_of_deleted_checkpoints_go(tmp_path):
    keeper = Keeper(tmp_path, keep_epochs=2)
    for epoch in range(1, 6):
        keeper.save_epoch(small_payload(epoch))
    assert sorted(Manifest(tmp_path).records) == ["epoch_4.pt", "epoch_5.pt"]


def test_a_file_written_again_has_one_record_of_its_newest_content(tmp_path):
    keeper = Keeper(tmp_path, save_most_recent=True)
    for epoch in (1, 2, 3):
        keeper.save_epoch(small_payload(epoch))
    assert read_verified(tmp_path / "epoch_latest.pt")["epoch"] == 3
    old = (tmp_path / "epoch_1.pt").read_bytes()
    (tmp_path / "epoch_latest.pt").write_bytes(old)
    with pytest.raises(CheckpointError, match="written as epoch_1"):
        read_verified(tmp_path / "epoch_latest.pt")


def test_one_process_of_a_machine_compares_and_the_others_only_read(folder):
    flip_bit(folder / "epoch_2.pt", 8 * (folder / "epoch_2.pt").read_bytes().index(b"\x00\x00\x80\x3f" * 20))
    with pytest.raises(CheckpointError):
        read_verified(folder / "epoch_2.pt")
    assert read_verified(folder / "epoch_2.pt", is_verifier=False)["epoch"] == 2
