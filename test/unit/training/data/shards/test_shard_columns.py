"""Every member of a sample is a column by its suffix; an index holds the places of those that are asked for."""

import io
import json
import logging
import tracemalloc
import zipfile

import numpy as np
import pytest

from open_clip.errors import ConfigError, DataError
from shard_sets import image, write_shards, write_tar
from training.data import SourceRequest, find_kind
from training.data.members import MemberColumn
from training.data.shards import Selector
from training.data.shards.index_file import open_index
from training.data.source import MissingColumns
from training.params.data import DataParams, ShardParams


def saved(save=np.savez, **arrays):
    held = io.BytesIO()
    save(held, **arrays)
    return held.getvalue()


def array(values):
    held = io.BytesIO()
    np.save(held, values)
    return held.getvalue()


def sample(key, number):
    return [
        (f"{key}.jpg", image((number, 0, 0))),
        (f"{key}.depth.png", image((0, number, 0))),
        (f"{key}.cls", str(number).encode()),
        (f"{key}.short.txt", b"short"),
        (f"{key}.syn.json", json.dumps({"syn_text": ["one", "two", "three"], "boxes": [[1, 2]]}).encode()),
        (f"{key}.npz", saved(np.savez_compressed, image_emb=np.full((2, 3), number, np.float32), other=np.arange(2))),
        (f"{key}.npy", array(np.arange(3, dtype=np.uint8))),
        (f"{key}.raw", b"\x00\x01"),
        (f"{key}.json", json.dumps({"id": number, "label": number + 10}).encode()),
    ]


@pytest.fixture
def shard(tmp_path):
    return write_tar(tmp_path / "0.tar", [member for number in range(3) for member in sample(f"s{number}", number)])


def ask(path, columns, *pairs, role="train", **shards):
    return SourceRequest(str(path), role, DataParams(columns=list(pairs)), ShardParams(**shards), columns=columns)


def open_source(path, columns, *pairs, **options):
    request = ask(path, columns, *pairs, **options)
    kind = find_kind(request)
    kind.check(request)
    return kind.open(request)


def test_members_are_columns_by_their_suffix(shard):
    pairs = ("target=depth.png", "caption=syn.json:syn_text", "boxes=syn.json:boxes", "emb=npz:image_emb")
    names = ("image", "target", "cls", "short", "caption", "boxes", "emb", "npz", "npy", "raw", "json", "label")
    source = open_source(shard, names, *pairs)
    row = {name: source.read(name, 2, seed=5) for name in names}
    assert source.columns == names
    assert row["image"].open().getpixel((0, 0))[:2] == (2, 0)
    assert row["target"].open().getpixel((0, 0))[:2] == (0, 2)
    # NAME alone is the member of that suffix, else NAME.txt, else what the json holds under it.
    assert (row["cls"], row["short"], row["label"]) == ("2", "short", 12)
    assert row["boxes"] == [[1, 2]]
    assert row["emb"].tolist() == [[2.0] * 3] * 2
    assert {name: values.tolist() for name, values in row["npz"].items()} == {
        "image_emb": [[2.0] * 3] * 2,
        "other": [0, 1],
    }
    assert (row["npy"].tolist(), row["raw"], row["json"]["id"]) == ([0, 1, 2], b"\x00\x01", 2)
    drawn = [source.read("caption", 2, seed=seed) for seed in range(30)]
    assert set(drawn) == {"one", "two", "three"}
    assert drawn == [source.read("caption", 2, seed=seed) for seed in range(30)]


def test_rows_need_no_image_and_no_caption_and_text_may_stand_anywhere(shard):
    assert open_source(shard, ("cls",), role="val").num_images == 0
    source = open_source(shard, ("image", "text"), "text=short.txt", role="val")
    assert (source.read("text", 0), source.num_images, len(source)) == ("short", 3, 3)
    assert open_source(shard, ("image",), "image=depth.png").read("image", 1).open().getpixel((0, 0))[:2] == (0, 1)


def test_a_sample_that_lacks_a_column_is_unusable_and_says_why(tmp_path):
    members = sample("a", 1)
    members += [member for member in sample("b", 2) if not member[0].endswith((".cls", ".json"))] + sample("c", 3)
    source = open_source(write_tar(tmp_path / "0.tar", members), ("image", "cls"))
    assert (len(source), [fault.reason for fault in source.faults]) == (2, ["no cls (cls, cls.txt, json:cls)"])
    assert source.read("cls", 1) == "3"


@pytest.mark.parametrize(
    "columns, pairs, missing",
    [
        (("image", "classes"), (), "classes"),
        (("image", "cls", "emb"), ("emb=pth",), "emb"),
        (("image", "name"), ("name=syn.json:names",), "name"),
        (("emb",), ("emb=npz:text_emb",), "emb"),
    ],
)
def test_a_column_that_no_sample_has_is_a_wrong_flag_that_names_those_there_are(shard, columns, pairs, missing):
    with pytest.raises(MissingColumns, match=f"has no column '{missing}'.*jpg.*cls.*json:label") as error:
        open_source(shard, columns, *pairs)
    assert error.value.missing == (missing,)


def test_a_stream_has_images_and_captions_alone(shard):
    with pytest.raises(ConfigError, match="streams images and captions alone"):
        open_source(shard, ("image", "text", "cls"), shard_order="buffer")
    request = ask(shard, ("image", "text"), shard_order="buffer")
    find_kind(request).check(request)


def test_an_index_of_images_and_captions_is_the_file_it_always_was_and_no_other_is_taken_for_it(tmp_path, caplog):
    path = str(write_shards(tmp_path / "s", [3]) / "00000.tar")
    plain = Selector()
    assert plain.identity == "jpg;png;jpeg;webp|txt"
    first = open_index(path, plain)
    file = tmp_path / "s" / ".open_clip_index" / "00000.tar.npz"
    written = file.read_bytes()
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        names = sorted(archive.namelist())
    assert names == [f"{name}.npy" for name in ("faults", "joined", "key_offsets", "keys", "rows", "spans", "stamp")]
    further = Selector(further=(MemberColumn.named("caption"),))
    index = open_index(path, further)
    assert (first.spans.shape, index.spans.shape, index.ways.tolist()) == ((3, 4), (3, 6), [[2]] * 3)
    again = open_index(path, further)
    assert np.array_equal(again.spans, index.spans)
    assert np.array_equal(again.ways, index.ways)
    assert open_index(path, plain).ways is None
    assert file.read_bytes() == written
    # The stamp of one selection over the places of another is no index: it is made anew, with a warning.
    stamp = {}
    for selector in (plain, further):
        open_index(path, selector)
        stamp[selector] = dict(np.load(file))
    forged = stamp[further] | {"ways": np.full((3, 1), 9, np.uint8)}
    np.savez(file, **forged)
    with caplog.at_level(logging.WARNING):
        assert open_index(path, further).ways.tolist() == [[2]] * 3
    assert "its columns do not fit" in caplog.text
    np.savez(file, **(stamp[further] | {"spans": stamp[plain]["spans"]}))
    assert open_index(path, further).spans.shape == (3, 6)


def test_what_further_columns_hold_tells_data_apart(shard, tmp_path):
    plain = open_source(write_shards(tmp_path / "s", [2]) / "00000.tar", ("image", "text")).contents
    assert "columns" not in plain
    asked = [("image", "cls"), ("image", "raw")], [("image", "x"), "x=cls"], [("image", "x"), "x=raw"]
    found = {open_source(shard, *one).contents for one in (asked[0][:1], asked[0][1:], asked[1], asked[2])}
    assert len(found) == 4


def pickled():
    held = io.BytesIO()
    np.save(held, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return held.getvalue()


def promising(shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def bomb():
    held = io.BytesIO()
    with (
        zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as file,
    ):
        for _ in range(70):
            file.write(bytes(1 << 20))
    return held.getvalue()


def packed_otherwise():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", array(np.arange(3)))
    return held.getvalue()


def test_an_archive_that_claims_less_than_it_holds_takes_no_more_memory_than_it_claims():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", array(np.zeros(50 << 20, np.uint8)))
    content = held.getvalue().replace((50 << 20 | 128).to_bytes(4, "little"), (4096).to_bytes(4, "little"))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="array file cannot be read"):
            MemberColumn.named("x", "npz").read(0, content, 0)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def of_many():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for number in range(1001):
            archive.writestr(f"{number}.npy", b"")
    return held.getvalue()


@pytest.mark.parametrize(
    "suffix, content, said",
    [
        ("npy", pickled(), "refused: it holds Python objects"),
        ("npy", promising((1 << 60,)), "has 0 bytes, which is not what its shape"),
        ("npy", b"", "array file cannot be read"),
        ("npz", saved(a=np.array([{"a": 1}], dtype=object)), "refused: it holds Python objects"),
        ("npz", bomb(), "bytes unpacked is over the limit of 67,108,864"),
        ("npz", of_many(), "more than 1,000 arrays"),
        ("npz", packed_otherwise(), "packed in another way"),
        ("npz", saved(a=np.arange(9))[:-40], "array file cannot be read"),
        ("json", b"[" * 200_000, "json cannot be read"),
        ("json", b"{", "json cannot be read"),
        ("cls", b"\xff", "cls is not UTF-8 at byte 0"),
        ("cls", b" ", "is empty"),
    ],
)
def test_hostile_members_are_unusable_rows_with_a_reason(suffix, content, said):
    with pytest.raises(DataError, match=said):
        MemberColumn.named("x", suffix).read(0, content, 0)


def test_members_over_their_limits_are_never_read(tmp_path):
    members = [*sample("a", 1), ("b.jpg", image()), ("b.json", b" " * ((1 << 20) + 1))]
    source = open_source(write_tar(tmp_path / "0.tar", members), ("image", "json"))
    assert [fault.reason for fault in source.faults] == [
        "json (json) of 1,048,577 bytes is over the limit of 1,048,576"
    ]


@pytest.mark.parametrize("word", ["", "txt:key", "json:", ";"])
def test_a_place_that_cannot_be_is_refused(word):
    with pytest.raises(ConfigError, match="give the suffix of a file such as cls"):
        MemberColumn.named("x", word)
