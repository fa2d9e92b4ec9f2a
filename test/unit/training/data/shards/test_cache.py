import json
import os
import threading

import numpy as np
import pytest
import torch

from file_server import serve_files
from image_sets import pair_set
from open_clip.errors import DataError
from shard_sets import write_shards
from training.data import make_train_loader
from training.data.members import MemberColumn
from training.data.shards import Selector, ShardCache, Visit, open_shards
from training.data.shards import cache as cache_module
from training.data.source import MissingColumns

fsspec = pytest.importorskip("fsspec", reason="the extra `shards` is not installed")


@pytest.fixture
def remote(tmp_path):
    """Shards in fsspec's memory file system, with their names."""
    write_shards(tmp_path / "source", [4, 3, 5])
    memory = fsspec.filesystem("memory")
    names = []
    for path in sorted((tmp_path / "source").glob("*.tar")):
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
        names.append(f"memory://bucket/{path.name}")
    yield names
    memory.rm("/bucket", recursive=True)


def words(texts):
    return torch.tensor([[len(text), ord(text[-1])] for text in texts])


def pixels(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def test_remote_shards_give_the_rows_of_local_ones(remote, tmp_path):
    table = open_shards("x", remote, Selector(), Visit(), cache=ShardCache(tmp_path / "cache"))
    assert [table.read("text", row) for row in (0, 4, 11)] == ["00000_0", "00001_0", "00002_4"]
    assert len(list((tmp_path / "cache").glob("*-0000?.tar"))) == 3


@pytest.mark.parametrize("has_sizes", [False, True])
def test_remote_shards_give_further_columns_or_say_that_they_lack_them(remote, tmp_path, has_sizes):
    if has_sizes:
        sizes = {f"0000{number}.tar": count for number, count in enumerate((4, 3, 5))}
        fsspec.filesystem("memory").pipe("/bucket/sizes.json", json.dumps(sizes).encode())
    cache = ShardCache(tmp_path / "cache")
    found = Selector(further=(MemberColumn.named("caption"),))
    assert open_shards("x", remote, found, Visit(), cache=cache).read("caption", 4) == "00001_0"
    for name, own_name in (("label", "cls"), ("title", None)):
        lacking = Selector(further=(MemberColumn.named(name, own_name),))
        with pytest.raises(MissingColumns, match=f"'{name}'.*It has: png, txt, json, json:caption"):
            open_shards("x", remote, lacking, Visit(), cache=cache)


def test_without_a_cache_the_flag_is_named(remote):
    with pytest.raises(DataError, match="--shard-cache"):
        open_shards("x", remote, Selector(), Visit())


def test_counts_beside_the_shards_spare_fetching_them_at_the_start(remote, tmp_path):
    sizes = {f"0000{number}.tar": count for number, count in enumerate((4, 3, 5))}
    fsspec.filesystem("memory").pipe("/bucket/sizes.json", json.dumps(sizes).encode())
    table = open_shards("x", remote, Selector(), Visit(), cache=ShardCache(tmp_path / "cache"))
    assert len(table) == 12
    assert not (tmp_path / "cache").exists()
    assert table.read("text", 5) == "00001_1"
    assert len(list((tmp_path / "cache").glob("*.tar"))) == 1


def test_a_count_that_promises_too_much_costs_those_samples_only(remote, tmp_path):
    fsspec.filesystem("memory").pipe("/bucket/sizes.json", b'{"00000.tar": 6, "00001.tar": 3, "00002.tar": 5}')
    table = open_shards("x", remote, Selector(), Visit(), cache=ShardCache(tmp_path / "cache"))
    loader = make_train_loader(pair_set(table, pixels, words), batch_size=14)
    batch = next(iter(loader.epoch(0)))
    assert len(batch.texts) == 14
    assert {fault.row for fault in batch.faults} == {4, 5}
    assert all("fewer than were counted" in fault.reason for fault in batch.faults)


def test_a_shard_that_is_not_there_is_named(remote, tmp_path):
    with pytest.raises(DataError, match=r"memory://bucket/9\.tar cannot be fetched"):
        open_shards("x", [*remote, "memory://bucket/9.tar"], Selector(), Visit(), cache=ShardCache(tmp_path / "cache"))


def test_the_least_used_copies_are_dropped_first(remote, tmp_path):
    cache = ShardCache(tmp_path / "cache")
    size = os.path.getsize(cache.locate(remote[0]))
    cache.max_bytes = int(2.2 * size)
    cache.locate(remote[1])
    cache.locate(remote[0])
    cache.locate(remote[2])
    kept = {path.name.partition("-")[2] for path in (tmp_path / "cache").glob("*.tar")}
    assert kept == {"00000.tar", "00002.tar"}
    assert cache.locate(remote[1])


def test_using_a_copy_does_not_make_its_index_stale(remote, tmp_path):
    cache = ShardCache(tmp_path / "cache")
    written = os.stat(cache.locate(remote[0])).st_mtime_ns
    assert os.stat(cache.locate(remote[0])).st_mtime_ns == written


def test_processes_that_want_one_shard_fetch_it_once(tmp_path):
    write_shards(tmp_path / "source", [4])
    content = (tmp_path / "source" / "00000.tar").read_bytes()
    pytest.importorskip("webdataset", reason="the extra `shards` is not installed")
    with serve_files(files={"/00000.tar": content}) as server:
        cache = ShardCache(tmp_path / "cache")
        threads = [threading.Thread(target=cache.locate, args=(f"{server.url}/00000.tar",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert cache.copy_of(f"{server.url}/00000.tar").read_bytes() == content
        assert len(server.ranges) == 1


def test_shards_that_come_next_are_fetched_ahead(remote, tmp_path):
    fsspec.filesystem("memory").pipe("/bucket/sizes.json", b'{"00000.tar": 4, "00001.tar": 3, "00002.tar": 5}')
    cache = ShardCache(tmp_path / "cache")
    table = open_shards("x", remote, Selector(), Visit(window=1), cache=cache)
    order = table.epoch_order(0, 0)
    coming = order.shards_after(0)
    assert len(coming) == 1
    table.announce(order, 0)
    cache.wait()
    assert [path.name.partition("-")[2] for path in (tmp_path / "cache").glob("*.tar")] == [f"0000{coming[0]}.tar"]


def test_a_failing_server_is_asked_again(tmp_path, monkeypatch, remote):
    monkeypatch.setattr(cache_module, "_PAUSE_S", 0.01)
    failures = iter([OSError("reset"), OSError("reset")])
    real = cache_module.open_shard

    def unreliable(url, allow_pipe):
        error = next(failures, None)
        if error is not None:
            raise error
        return real(url, allow_pipe)

    monkeypatch.setattr(cache_module, "open_shard", unreliable)
    assert os.path.getsize(ShardCache(tmp_path / "cache").locate(remote[0])) > 0


def test_links_and_leavings_in_the_cache_are_replaced_and_not_followed(remote, tmp_path):
    cache = ShardCache(tmp_path / "cache")
    cache.folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("kept")
    target = cache.copy_of(remote[0])
    left = target.with_name(f".tmp-{target.name}-999999")
    left.write_text("half of a shard")
    for name in (
        target,
        target.with_name(f".tmp-{target.name}-{os.getpid()}"),
        target.with_name(f".{target.name}.part"),
    ):
        name.symlink_to(secret)
    assert os.path.getsize(cache.locate(remote[0])) > 2048
    assert not target.is_symlink()
    assert not left.exists()
    assert secret.read_text() == "kept"


@pytest.mark.parametrize(
    "name", ["a%00b.tar", "%2e%2e%2f%2e%2e%2fout.tar", "\x1b[2J\n.tar", "x" * 400 + ".tar", "\udcff.tar", "[::1/a"]
)
def test_an_address_of_any_form_has_a_place_inside_the_cache(tmp_path, name):
    cache = ShardCache(tmp_path / "cache")
    place = cache.copy_of(f"memory://bucket/{name}")
    assert place.parent == cache.folder
    assert str(place).isprintable()
    with pytest.raises(DataError, match="cannot be fetched") as caught:
        cache.locate(f"memory://bucket/{name}")
    assert str(caught.value).isprintable()


def test_a_folder_in_a_copys_place_and_a_file_in_the_caches_are_named(remote, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_PAUSE_S", 0.0)
    cache = ShardCache(tmp_path / "cache")
    cache.copy_of(remote[0]).mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be fetched"):
        cache.locate(remote[0])
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="--shard-cache .* cannot be used"):
        ShardCache(tmp_path / "file").locate(remote[0])
