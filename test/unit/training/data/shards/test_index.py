import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from open_clip.errors import DataError
from shard_sets import image, write_shard, write_tar
from training.data.shards.index import make_index
from training.data.shards.index_file import open_index
from training.data.shards.selector import Selector

SELECTOR = Selector()


def keys(index):
    return [index.keys[number] for number in range(len(index))]


def test_samples_without_image_or_caption_are_faults_with_key_and_reason(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        [
            ("0.png", image()),
            ("0.txt", b"sound"),
            ("1.png", image()),
            ("2.txt", b"no image"),
            ("3.json", b"{}"),
            ("sub/4.PNG", image()),
            ("sub/4.txt", b"upper case suffix"),
        ],
    )
    index = make_index(str(path), SELECTOR)
    assert keys(index) == ["0", "sub/4"]
    assert [(fault.row, fault.path, fault.reason.partition(" (")[0]) for fault in index.faults] == [
        (1, "1", "no caption"),
        (2, "2", "no image"),
        (3, "3", "neither image"),
    ]


def test_a_repeated_suffix_starts_a_sample(tmp_path):
    members = [("0.png", image()), ("0.txt", b"one"), ("0.png", image()), ("0.txt", b"two")]
    assert keys(make_index(str(write_tar(tmp_path / "a.tar", members)), SELECTOR)) == ["0", "0"]


def test_a_shard_cut_short_keeps_its_whole_samples_and_says_so(tmp_path):
    path = write_shard(tmp_path / "a.tar", 5)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    index = make_index(str(path), SELECTOR)
    assert 0 < len(index) < 5
    assert "cut short" in index.faults[-1].reason or "end mark" in index.faults[-1].reason


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 100, b"\0\1\2" * 1000])
def test_what_is_no_tar_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tar cannot be read"):
        open_index(str(tmp_path / "a.tar"), SELECTOR)


def test_an_index_is_read_again_and_made_anew_when_shard_or_choice_changed(tmp_path):
    path = write_shard(tmp_path / "a.tar", 3)
    made = open_index(str(path), SELECTOR)
    place = tmp_path / ".open_clip_index" / "a.tar.npz"
    assert place.is_file()
    stamp = place.stat().st_mtime_ns
    again = open_index(str(path), SELECTOR)
    assert place.stat().st_mtime_ns == stamp
    assert keys(again) == keys(made)
    assert (again.spans == made.spans).all()
    assert len(open_index(str(path), Selector(image_keys=("jpg",)))) == 0
    write_shard(path, 4)
    os.utime(path, ns=(1, 1))
    assert len(open_index(str(path), SELECTOR)) == 4


def test_a_damaged_index_is_made_anew(tmp_path):
    path = write_shard(tmp_path / "a.tar", 3)
    made = open_index(str(path), SELECTOR)
    place = tmp_path / ".open_clip_index" / "a.tar.npz"
    sound = place.read_bytes()
    for cut in (0, 10, len(sound) // 2, len(sound) - 30):
        place.write_bytes(sound[:cut])
        assert keys(open_index(str(path), SELECTOR)) == keys(made)
    flipped = bytearray(sound)
    flipped[len(sound) // 2] ^= 4
    place.write_bytes(flipped)
    again = open_index(str(path), SELECTOR)
    assert keys(again) == keys(made)
    assert (again.spans == made.spans).all()


def test_a_folder_that_cannot_be_written_sends_the_index_to_the_cache(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    path = write_shard(tmp_path / "data" / "a.tar", 2)
    (tmp_path / "data" / ".open_clip_index").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(open_index(str(path), SELECTOR)) == 2
    assert list((tmp_path / "cache").rglob("a.tar-*.npz"))


def test_captions_of_json_are_drawn_by_weight_and_seed():
    selector = Selector(json_keys=("caption", "alt"), json_weights=(3.0, 1.0))
    content = b'{"caption": "a", "alt": ["b", "c", ""], "key": 7}'
    drawn = [selector.caption(content, seed) for seed in range(4000)]
    assert drawn == [selector.caption(content, seed) for seed in range(4000)]
    shares = [drawn.count(text) / len(drawn) for text in "abc"]
    assert shares == pytest.approx([0.75, 0.125, 0.125], abs=0.03)


@pytest.mark.parametrize(
    "selector, content, reason",
    [
        (Selector(), b"  \n", "empty"),
        (Selector(), b"&#5&#5&#4&#5&#5" * 20 + b"5" + b";" * 100, "nested more than 64 deep"),
        (Selector(), b"caf\xe9", "not UTF-8"),
        (Selector(), b"a\0b", "NUL"),
        (Selector(json_keys=("caption",)), b"{", "cannot be read"),
        (Selector(json_keys=("caption",)), b"[1]", "no fields"),
        (Selector(json_keys=("caption",)), b'{"caption": null}', "no caption under caption"),
        (Selector(json_keys=("caption",)), b"[" * 100_000, "cannot be read"),
    ],
)
def test_unusable_captions_are_refused_with_a_reason(selector, content, reason):
    with pytest.raises(DataError, match=reason):
        selector.caption(content, 0)


def members_of(*names):
    return [(name, image() if name.endswith("png") else name.encode()) for name in names]


def captions(index):
    content = Path(index.path).read_bytes()
    return [content[offset : offset + size].decode() for offset, size in index.spans[:, 2:].tolist()]


def test_samples_whose_members_stand_apart_are_put_together_and_counted(tmp_path):
    names = [f"{key}.{suffix}" for suffix in ("png", "json", "txt") for key in "abc"]
    index = make_index(str(write_tar(tmp_path / "a.tar", members_of(*names, "d.png", "d.txt", "e.png"))), SELECTOR)
    assert (keys(index), captions(index)) == (list("abcd"), ["a.txt", "b.txt", "c.txt", "d.txt"])
    assert index.num_joined == 3
    assert [(fault.row, fault.path) for fault in index.faults] == [(4, "e")]


def test_what_else_belongs_to_whole_samples_is_no_sample_and_changes_none(tmp_path):
    names = [f"{key}.{suffix}" for key in "ab" for suffix in ("png", "txt")] + ["a.json", "b.json"]
    index = make_index(str(write_tar(tmp_path / "a.tar", members_of(*names))), SELECTOR)
    assert (keys(index), index.faults, index.num_joined) == (["a", "b"], (), 0)


def test_parts_that_could_be_put_together_in_two_ways_are_left_apart(tmp_path):
    names = ["a.png", "b.png", "b.txt", "a.png", "c.png", "c.txt", "a.txt"]
    index = make_index(str(write_tar(tmp_path / "a.tar", members_of(*names))), SELECTOR)
    assert keys(index) == ["b", "c"]
    assert [(fault.path, "comes again" in fault.reason) for fault in index.faults] == [("a", True)] * 3


@pytest.mark.parametrize("name", ["图片".encode("gbk"), "é".encode("latin-1"), b"\xed\xa0\x80", b"\x1b[2J\n"])
def test_names_in_any_encoding_only_name_samples(tmp_path, name):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as archive:
        for suffix, content in ((".png", image()), (".txt", b"words")):
            info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape") + suffix)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    for _ in range(2):
        index = open_index(str(path), SELECTOR)
        assert (len(index), captions(index), index.faults) == (1, ["words"], ())
        keys(index)[0].encode("utf-8")


def _change(**changes):
    """Return what changes arrays of an index."""
    return lambda arrays: {name: changes.get(name, lambda held: held)(held) for name, held in arrays.items()}


def _text(value):
    return lambda held: np.frombuffer(json.dumps(value).encode(), np.uint8)


HOSTILE = {
    "float spans": _change(spans=lambda held: held.astype(float)),
    "two columns": _change(spans=lambda held: held[:, :2].copy()),
    "one dimension": _change(spans=lambda held: held.reshape(-1)),
    "beyond the file": _change(spans=lambda held: held + [0, 0, 1 << 40, 0]),
    "overflow": _change(spans=lambda held: held + [0, (1 << 63) - 10_000, 0, 0]),
    "negative offset": _change(spans=lambda held: held - [0, 0, 1 << 40, 0]),
    "negative size": _change(spans=lambda held: held * [1, -1, 1, 1]),
    "overlapping": _change(spans=lambda held: held + [0, 0, 0, 2500]),
    "rows fewer": _change(rows=lambda held: held[:-1]),
    "rows out of order": _change(rows=lambda held: held[::-1].copy()),
    "rows negative": _change(rows=lambda held: held - 5),
    "rows unsigned": _change(rows=lambda held: held.astype(np.uint64)),
    "keys no UTF-8": _change(keys=lambda held: held * 0 + 255),
    "keys as text": _change(keys=lambda held: held.astype(np.int8)),
    "offsets fewer": _change(key_offsets=lambda held: held[1:]),
    "offsets none": _change(key_offsets=lambda held: held[:0]),
    "offsets fall": _change(key_offsets=lambda held: held[[0, 2, 1, 3]]),
    "offsets beyond": _change(key_offsets=lambda held: held * 9),
    "objects": _change(rows=lambda held: held.astype(object)),
    "no array": _change(rows=lambda held: np.int64(1)),
    "joined": _change(joined=lambda held: held + 99),
    "faults no list": _change(faults=_text(7)),
    "faults deep": _change(faults=lambda held: np.frombuffer(b"[" * 60_000, np.uint8)),
    "faults of numbers": _change(faults=_text([[1, 2, 3]])),
    "faults short": _change(faults=_text([["a"]])),
    "faults row": _change(faults=_text([[True, "a", "b"]])),
    "fewer entries": lambda arrays: {name: held for name, held in arrays.items() if name != "rows"},
    "more entries": lambda arrays: arrays | {"more": arrays["rows"]},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_index_that_does_not_fit_its_shard_is_made_anew_with_one_line(tmp_path, kind, caplog):
    path = write_shard(tmp_path / "a.tar", 3)
    made = open_index(str(path), SELECTOR)
    place = tmp_path / ".open_clip_index" / "a.tar.npz"
    sound = place.read_bytes()
    with np.load(place) as file:
        np.savez(place, **HOSTILE[kind](dict(file)))
    again = open_index(str(path), SELECTOR)
    assert (again.spans == made.spans).all()
    assert keys(again) == keys(made)
    (line,) = caplog.messages
    assert "is damaged (" in line
    assert line.isprintable()
    with np.load(place) as file, np.load(io.BytesIO(sound)) as first:
        assert all((file[name] == first[name]).all() for name in first.files)


def test_an_index_that_would_unfold_or_outweigh_its_shard_is_not_read(tmp_path, caplog):
    path = write_shard(tmp_path / "a.tar", 3)
    made = open_index(str(path), SELECTOR)
    place = tmp_path / ".open_clip_index" / "a.tar.npz"
    with np.load(place) as file:
        arrays = dict(file)
    np.savez_compressed(place, **(arrays | {"keys": np.zeros(10 << 20, np.uint8)}))
    assert keys(open_index(str(path), SELECTOR)) == keys(made)
    place.write_bytes(bytes(1 << 20))
    assert keys(open_index(str(path), SELECTOR)) == keys(made)
    assert [("are packed" in line, "larger than 7" in line) for line in caplog.messages] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "loop"])
def test_what_stands_in_an_indexs_place_is_neither_waited_for_nor_followed(tmp_path, kind, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data" / ".open_clip_index").mkdir(parents=True)
    path = write_shard(tmp_path / "data" / "a.tar", 3)
    place = path.parent / ".open_clip_index" / "a.tar.npz"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero" if kind == "device" else place)
    assert len(open_index(str(path), SELECTOR)) == 3
    assert place.is_dir() if kind == "folder" else place.is_file() and not place.is_symlink()


def test_links_planted_for_an_index_are_not_written_through(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    secret = tmp_path / "secret"
    secret.write_text("kept")
    outside = tmp_path / "outside"
    outside.mkdir()
    path = write_shard(tmp_path / "data.tar", 3)
    folder = tmp_path / ".open_clip_index"
    folder.symlink_to(outside)
    assert len(open_index(str(path), SELECTOR)) == 3
    assert list(outside.iterdir()) == []
    folder.unlink()
    folder.mkdir()
    for name in ("data.tar.npz", f".tmp-data.tar.npz-{os.getpid()}"):
        (folder / name).symlink_to(secret)
    assert len(open_index(str(path), SELECTOR)) == 3
    assert secret.read_text() == "kept"
