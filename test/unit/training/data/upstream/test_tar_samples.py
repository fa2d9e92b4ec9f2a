import gzip
import os
import pickle
import tarfile

import pytest

from open_clip.errors import DataError
from shard_sets import image, write_shard, write_tar
from training.data import group_by_keys_nothrow, log_and_continue, tarfile_to_samples_nothrow
from training.data.upstream.tar_samples import TarSamples, base_plus_ext


def read(*paths):
    return list(tarfile_to_samples_nothrow({"url": str(path)} for path in paths))


def test_a_sample_is_the_members_that_share_a_key(tmp_path):
    members = [("a/1.JPG", b"x"), ("a/1.seg.png", b"y"), ("a/1.txt", b"z"), ("b/1.txt", b"w")]
    path = write_tar(tmp_path / "0.tar", members)
    assert read(path) == [
        {"__key__": "a/1", "__url__": str(path), "jpg": b"x", "seg.png": b"y", "txt": b"z"},
        {"__key__": "b/1", "__url__": str(path), "txt": b"w"},
    ]


def test_a_suffix_met_twice_starts_a_new_sample(tmp_path):
    path = write_tar(tmp_path / "0.tar", [("1.jpg", b"a"), ("1.txt", b"b"), ("1.jpg", b"c"), ("1.txt", b"d")])
    assert [(sample["jpg"], sample["txt"]) for sample in read(path)] == [(b"a", b"b"), (b"c", b"d")]


def test_members_of_two_shards_never_make_one_sample(tmp_path):
    first = write_tar(tmp_path / "0.tar", [("1.jpg", b"a")])
    second = write_tar(tmp_path / "1.tar", [("1.txt", b"b")])
    assert [set(sample) - {"__key__", "__url__"} for sample in read(first, second)] == [{"jpg"}, {"txt"}]


def test_marks_of_a_shards_end_are_passed_over():
    first = {"fname": "0.jpg", "data": b"a", "__url__": "0.tar"}
    members = [first, {}, first | {"data": b"b", "__url__": "1.tar"}]
    assert [sample["jpg"] for sample in group_by_keys_nothrow(members)] == [b"a", b"b"]


def test_a_name_without_a_suffix_and_meta_members_are_no_samples(tmp_path):
    assert base_plus_ext("a.b/c") == (None, None)
    assert base_plus_ext("a.b/c.d.e") == ("a.b/c", "d.e")
    path = write_tar(tmp_path / "0.tar", [("README", b""), ("__index__/a.txt", b""), ("1.txt", b"t")])
    assert [sample["txt"] for sample in read(path)] == [b"t"]


def test_a_torn_shard_gives_what_comes_before_the_tear_and_the_next_one_follows(tmp_path, caplog):
    torn = write_shard(tmp_path / "torn.tar", 5)
    torn.write_bytes(torn.read_bytes()[:5000])
    whole = write_shard(tmp_path / "whole.tar", 2)
    texts = [sample.get("txt") for sample in read(torn, tmp_path / "missing.tar", whole)]
    assert texts[0] == b"torn_0"
    assert texts[-2:] == [b"whole_0", b"whole_1"]
    assert "torn.tar" in caplog.text
    assert "missing.tar" in caplog.text


def test_a_handler_may_stop_the_stream(tmp_path):
    whole = write_shard(tmp_path / "whole.tar", 2)
    shards = [{"url": str(tmp_path / "missing.tar")}, {"url": str(whole)}]
    assert list(tarfile_to_samples_nothrow(shards, handler=lambda error: False)) == []
    assert log_and_continue(ValueError("x")) is True


def test_shards_that_hold_nothing_usable_end_the_stream_instead_of_turning_for_ever(tmp_path):
    path = write_tar(tmp_path / "0.tar", [("1.jpg", image())])
    with pytest.raises(DataError, match=r"3 shards in a row gave no sample .*0\.tar"):
        list(TarSamples(max_barren=3)({"url": str(path)} for _ in range(9)))


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a member was unpickled",))


def test_no_member_is_ever_unpickled(tmp_path):
    trap = pickle.dumps(Trap(), protocol=0)
    members = [(f"1.{suffix}", trap) for suffix in ("pyd", "pickle", "pkl", "pth")]
    samples = read(write_tar(tmp_path / "0.tar", [*members, ("1.txt", b"t")]))
    assert samples[0]["pyd"] == trap


@pytest.mark.parametrize("name", ["0.tar", "0.tar.gz"])
def test_a_compressed_shard_is_unpacked_on_the_way(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(write_shard(tmp_path / "plain.tar", 3).read_bytes()))
    assert [sample["txt"] for sample in read(path)] == [b"plain_0", b"plain_1", b"plain_2"]


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_an_extension_header_larger_than_any_name_ends_its_shard_unread(tmp_path, kind, caplog):
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, 2 << 20
    path = tmp_path / "0.tar"
    path.write_bytes(info.tobuf() + b"n" * (2 << 20) + write_shard(tmp_path / "1.tar", 1).read_bytes())
    assert read(path) == []
    assert "an extension header claims 2,097,152 bytes" in caplog.text


def test_a_pipe_in_a_shards_place_is_refused_instead_of_waited_for(tmp_path, caplog):
    os.mkfifo(tmp_path / "0.tar")
    assert read(tmp_path / "0.tar") == []
    assert "not a plain file" in caplog.text
