import os
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from image_sets import pair_set
from open_clip.errors import DataError
from shard_sets import image, write_shards, write_tar
from training.data import make_train_loader
from training.data.shards import Selector, Visit, open_shards
from training.data.shards import rows as rows_module


def words(texts):
    return torch.tensor([[len(text), ord(text[-1])] for text in texts])


def pixels(image):
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def shards_of(folder):
    return sorted(map(str, folder.glob("*.tar")))


def open_all(folder, selector=None, **options):
    return open_shards(str(folder), shards_of(folder), selector or Selector(), Visit(window=10), **options)


def faulty_shard(path):
    """The eight samples of real web shards: 1 no text, 2 torn, 4 empty text, 5 no UTF-8, 6 no image."""
    torn = image(size=(64, 64), form="JPEG")[:300]
    members = []
    for number in range(8):
        if number != 6:
            members.append((f"{number}.jpg", torn if number == 2 else image(form="JPEG" if number != 3 else "PNG")))
        if number != 1:
            text = {4: b"", 5: b"caf\xe9"}.get(number, b"caption %d" % number)
            members.append((f"{number}.txt", text))
    return write_tar(path, members)


def test_rows_are_the_samples_of_all_shards(tmp_path):
    table = open_all(write_shards(tmp_path, [3, 2, 4]))
    assert len(table) == 9
    assert [table.read("text", row) for row in range(9)] == [
        f"{shard:05d}_{number}" for shard, count in enumerate((3, 2, 4)) for number in range(count)
    ]
    assert isinstance(table.read("image", 4).open(1000), Image.Image)
    assert table.key(4) == "00001.tar:000010001"


def test_ranks_share_the_counting_and_agree(tmp_path):
    write_shards(tmp_path, [3, 2, 4, 1])
    parts = {}
    for rank in range(3):
        with pytest.raises(KeyError):
            open_all(tmp_path, rank=rank, world_size=3, gather=lambda own, rank=rank: [parts.setdefault(rank, own)])
    table = open_all(tmp_path, rank=0, world_size=3, gather=lambda own: list(parts.values()))
    assert len(table) == 10
    assert sorted(place for part in parts.values() for place in part) == [0, 1, 2, 3]


def test_missing_shards_are_named(tmp_path):
    write_shards(tmp_path, [2])
    with pytest.raises(DataError, match=r"1 of 2 shards are not there: .*00001\.tar"):
        open_shards("x", [str(tmp_path / "00000.tar"), str(tmp_path / "00001.tar")], Selector(), Visit())


def test_shards_without_a_usable_sample_are_refused_with_the_flag_to_change(tmp_path):
    write_shards(tmp_path, [2])
    with pytest.raises(DataError, match="--image-key"):
        open_all(tmp_path, Selector(image_keys=("jpg",)))


def test_dirty_samples_are_left_out_and_listed(tmp_path):
    faulty_shard(tmp_path / "0.tar")
    table = open_all(tmp_path)
    assert len(table) == 6
    dataset = pair_set(table, pixels, words, is_train=True)
    loader = make_train_loader(dataset, batch_size=6)
    batch = next(iter(loader.epoch(0)))
    assert batch.images.shape == (6, 3, 8, 8)
    reasons = {fault.path: fault.reason for fault in (*table.faults, *batch.faults)}
    assert sorted(reasons) == ["1", "2", "4", "5", "6"]
    assert "torn" in reasons["2"]
    assert reasons["4"] == "caption is empty"
    assert {key.partition(":")[2] for key in batch.keys} == {"0", "3", "7"}


@pytest.mark.parametrize(
    "members, selector, words",
    [
        ([], Selector(), ["They hold no file at all", "empty"]),
        (
            [("a.jpg", b"x"), ("a.json", b'{"caption": "words", "width": 3, "url": "u"}'), ("b.jpg", b"x")],
            Selector(),
            ["2 .jpg, 1 .json", "of 2 samples: no caption (txt)", "--json-text-key caption", "caption, url"],
        ),
        (
            [("a.bmp", b"x"), ("a.txt", b"y"), ("b.txt", b"y"), ("readme", b"z")],
            Selector(),
            ["2 .txt, 1 .bmp, 1 without a suffix", "--image-key 'bmp'", "of 2 samples: no image"],
        ),
        ([("a.\x1b[2J", b"x")], Selector(), ["1 .\\x1b[2j", "--text-key"]),
        ([("a.jpg", b"x"), ("a.json", b"[" * 90_000)], Selector(), ["1 .jpg, 1 .json", "--json-text-key"]),
        ([("a.jpg", b"x"), ("a.txt", b"y")], Selector(json_keys=("alt",)), ["alt in .json", "1 .jpg, 1 .txt"]),
    ],
)
def test_shards_without_a_sample_are_described_by_what_they_hold(tmp_path, members, selector, words):
    write_tar(tmp_path / "0.tar", members)
    with pytest.raises(DataError) as caught:
        open_all(tmp_path, selector)
    message = str(caught.value)
    assert message.isprintable()
    assert [word for word in words if word not in message] == []


def test_members_that_do_not_stand_together_are_told_of_once_a_run(tmp_path, caplog):
    for shard in range(3):
        names = [f"{number}.{suffix}" for suffix in ("png", "txt") for number in range(4)]
        write_tar(tmp_path / f"{shard}.tar", [(name, image() if "png" in name else b"words") for name in names])
    for _ in range(2):
        caplog.clear()
        assert len(open_all(tmp_path)) == 12
        (line,) = caplog.messages
        assert "12 samples do not stand together" in line


def test_more_samples_than_there_are_is_said_with_both_numbers(tmp_path, caplog):
    write_shards(tmp_path, [3, 4])
    table = open_shards("p", shards_of(tmp_path), Selector(), Visit(num_samples=70))
    assert len(table.epoch_order(0, 0)) == 7
    (line,) = caplog.messages
    assert "--train-num-samples 70 is more than the 7 samples" in line
    caplog.clear()
    for visit in (Visit(num_samples=7), Visit(num_samples=70, weights=[1.0, 1.0]), Visit()):
        open_shards("p", shards_of(tmp_path), Selector(), visit)
    assert caplog.messages == []


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_workers_ranks_or_where_they_start(tmp_path, workers):
    table = open_all(write_shards(tmp_path, [13, 7, 20]))
    dataset = pair_set(table, pixels, words, seed=5)
    whole = [batch.keys for batch in make_train_loader(dataset, batch_size=8, seed=5).epoch(1)]
    loader = make_train_loader(dataset, batch_size=8, seed=5, workers=workers)
    assert [batch.keys for batch in loader.epoch(1, start_batch=2)] == whole[2:]
    loader.close()
    halves = [make_train_loader(dataset, batch_size=4, rank=rank, world_size=2, seed=5) for rank in range(2)]
    joined = [a.keys + b.keys for a, b in zip(*(loader.epoch(1) for loader in halves), strict=True)]
    assert joined == whole


def test_a_shard_replaced_while_training_costs_its_samples_not_the_run(tmp_path):
    write_shards(tmp_path, [6, 6])
    table = open_all(tmp_path)
    write_shards(tmp_path, [2])
    dataset = pair_set(table, pixels, words)
    batch = dataset.read_batch([(0, 4)])
    assert batch.faults[0].reason.endswith("it was changed")
    assert batch.keys == ("00001.tar:000010000",)


@pytest.mark.parametrize("limit, value, held", [("_SAMPLES_HELD", 7, 3), ("_SHARDS_HELD", 2, 2)])
def test_a_process_keeps_the_places_of_few_samples_and_few_files_open(tmp_path, monkeypatch, limit, value, held):
    monkeypatch.setattr(rows_module, limit, value)
    table = open_all(write_shards(tmp_path, [2] * 8))
    for _ in range(2):
        for row in range(16):
            assert table.read("text", row) == f"{row // 2:05d}_{row % 2}"
            assert len(table._held) <= held
    assert table._num_held == 2 * held


def repeated_shards(folder):
    """Write three shards whose images are A B A, B C a, A; ``a`` has size and end of A but other bytes."""
    images = {name: image((number, 0, 0), "BMP", (40, 40)) for number, name in enumerate("ABC")}
    images["a"] = images["A"][:100] + b"\x07" + images["A"][101:]
    for shard, names in enumerate(("ABA", "BCa", "A")):
        members = []
        for number, name in enumerate(names):
            members += [(f"{number}.jpg", images[name]), (f"{number}.txt", b"words")]
        write_tar(folder / f"{shard}.tar", members)
    return folder


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_rows_of_equal_images_share_a_number_for_evaluation_only(tmp_path, world_size):
    repeated_shards(tmp_path)
    assert [open_all(tmp_path).image_id(row) for row in range(7)] == list(range(7))
    found = []
    barrier = threading.Barrier(world_size)
    given = {}

    def run(rank):
        def gather(own):
            given[rank] = own
            barrier.wait(60)
            values = [given[one] for one in range(world_size)]
            barrier.wait(60)
            return values

        found.append(open_all(tmp_path, group_images=True, rank=rank, world_size=world_size, gather=gather))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == world_size
    for table in found:
        assert [table.image_id(row) for row in range(7)] == [0, 1, 0, 1, 4, 5, 0]
        assert table.num_images == 4


def test_images_that_cannot_come_again_are_not_read_whole(tmp_path, monkeypatch):
    repeated_shards(tmp_path)
    read = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, offset: read.append(size) or real(file, size, offset))
    open_all(tmp_path, group_images=True)
    size = len(image((0, 0, 0), "BMP", (40, 40)))
    assert read.count(size) == 6
