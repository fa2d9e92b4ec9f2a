import os

import pytest

from open_clip.errors import DataError
from shard_sets import picture, write_shard, write_tar
from training.data.shards.index import make_index, open_index
from training.data.shards.selector import CaptionError, Selector

SELECTOR = Selector()


def keys(index):
    return [index.keys[number] for number in range(len(index))]


def test_samples_without_picture_or_caption_are_faults_with_key_and_reason(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        [
            ("0.png", picture()),
            ("0.txt", b"sound"),
            ("1.png", picture()),
            ("2.txt", b"no picture"),
            ("3.json", b"{}"),
            ("sub/4.PNG", picture()),
            ("sub/4.txt", b"upper case suffix"),
        ],
    )
    index = make_index(str(path), SELECTOR)
    assert keys(index) == ["0", "sub/4"]
    assert [(fault.row, fault.path, fault.reason[:10]) for fault in index.faults] == [
        (1, "1", "no caption"),
        (2, "2", "no picture"),
        (3, "3", "neither pi"),
    ]


def test_a_repeated_suffix_starts_a_sample(tmp_path):
    members = [("0.png", picture()), ("0.txt", b"one"), ("0.png", picture()), ("0.txt", b"two")]
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
        (Selector(), b"caf\xe9", "not UTF-8"),
        (Selector(), b"a\0b", "NUL"),
        (Selector(json_keys=("caption",)), b"{", "cannot be read"),
        (Selector(json_keys=("caption",)), b"[1]", "no fields"),
        (Selector(json_keys=("caption",)), b'{"caption": null}', "no caption under caption"),
        (Selector(json_keys=("caption",)), b"[" * 100_000, "cannot be read"),
    ],
)
def test_unusable_captions_are_refused_with_a_reason(selector, content, reason):
    with pytest.raises(CaptionError, match=reason):
        selector.caption(content, 0)
