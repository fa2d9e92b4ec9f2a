"""Shards as crawls and attackers leave them: used, refused or listed, and nothing in them is ever run."""

import io
import json
import os
import pickle
import random
import tarfile
import time

import pytest

from open_clip.errors import DataError, OpenClipError
from pairs import micro_flags
from runs import read_lines
from shard_sets import image, write_shard, write_tar
from training.data.shards import Selector, Visit, open_shards
from training.main import main

pytestmark = pytest.mark.faults
SOUND = [("s.png", image()), ("s.txt", b"sound")]


def table_of(path, selector=None):
    return open_shards("p", [str(path)], selector or Selector(), Visit())


def reasons(path, selector=None):
    """Return why samples of a shard cannot be used, found by its index or when they are read."""
    table = table_of(path, selector)
    found = [fault.reason for fault in table.faults]
    for index in range(len(table)):
        try:
            table.read("text", index)
            table.read("image", index).open(1_000_000)
        except DataError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize(
    "members, reason",
    [
        ([("k.jpg", image(form="JPEG"))], "no caption (txt)"),
        ([("k.txt", b"words"), ("k.json", b"{}")], "no image (jpg, png, jpeg, webp)"),
        ([("k.jpg", image(form="JPEG")[:200]), ("k.txt", b"words")], "image is torn or broken"),
        ([("k.jpg", b"<html>not found</html>"), ("k.txt", b"words")], "not an image"),
        ([("k.jpg", b""), ("k.txt", b"words")], "image file is empty"),
        ([("k.jpg", image(size=(1001, 1000))), ("k.txt", b"words")], "over the limit of 1,000,000"),
        ([("k.jpg", image()), ("k.txt", b"")], "caption is empty"),
        ([("k.jpg", image()), ("k.txt", b" \n\t")], "caption is empty"),
        ([("k.jpg", image()), ("k.txt", b"caf\xe9")], "caption is not UTF-8 at byte 3"),
        ([("k.jpg", image()), ("k.txt", b"a\0b")], "caption holds a NUL character"),
        ([("k.jpg", image()), ("k.txt", b"x" * 1_000_000)], "caption of 1,000,000 bytes is over the limit"),
        ([(name, image()) for name in ("a.png", "b.png", "a.png", "b.png")] + [("a.txt", b"1")], "comes again"),
        ([(f"{'d/' * 2100}k.png", image()), (f"{'d/' * 2100}k.txt", b"1")], "name of 4,201 bytes is over the limit"),
    ],
)
def test_a_sample_that_cannot_be_used_has_its_reason(tmp_path, members, reason):
    found = reasons(write_tar(tmp_path / "a.tar", [*SOUND, *members]))
    assert found
    assert all(reason in one for one in found)
    assert all("\n" not in one for one in found)


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"{", "json cannot be read"),
        (b"[" * 100_000, "json cannot be read"),
        (b"[1]", "json holds no fields"),
        (b"{}", "json holds no caption under caption"),
        (b'{"caption": ""}', "json holds no caption under caption"),
        (b'{"caption": null}', "json holds no caption under caption"),
        (b'{"caption": "\\ud800"}', "caption"),
        (b'{"caption": "' + b"x" * 100_001 + b'"}', "caption of 100,001 characters is over the limit"),
        (b'{"caption": "' + b"x" * 2_000_000 + b'"}', "json of 2,000,015 bytes is over the limit"),
    ],
)
def test_a_caption_field_that_cannot_be_used_has_its_reason(tmp_path, content, reason):
    members = [("s.png", image()), ("s.json", b'{"caption": "sound"}'), ("k.png", image()), ("k.json", content)]
    (found,) = reasons(write_tar(tmp_path / "a.tar", members), Selector(json_keys=("caption",)))
    assert reason in found


@pytest.mark.parametrize("form, suffix", [("PNG", "jpg"), ("WEBP", "jpg"), ("JPEG", "png"), ("GIF", "webp")])
def test_a_image_under_a_wrong_suffix_is_used(tmp_path, form, suffix):
    path = write_tar(tmp_path / "a.tar", [(f"k.{suffix}", image(form=form)), ("k.txt", b"words")])
    assert reasons(path) == []


@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
def test_what_is_no_regular_file_is_refused_unopened(tmp_path, kind):
    path = tmp_path / "a.tar"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    started = time.monotonic()
    with pytest.raises(DataError, match="is no regular file"):
        table_of(path)
    assert time.monotonic() - started < 5


def test_links_and_devices_in_a_shard_are_passed_over(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(f"k{number}.png")
            member.size = len(image())
            archive.addfile(member, io.BytesIO(image()))
            link = tarfile.TarInfo(f"k{number}.txt")
            link.type, link.linkname = kind, str(tmp_path / "secret.txt")
            archive.addfile(link)
    with pytest.raises(DataError, match="hold no sample"):
        table_of(path)


class _Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_training_runs_nothing_that_a_shard_holds_and_writes_nothing_where_it_says(tmp_path):
    (tmp_path / "data").mkdir()
    hostile = pickle.dumps(_Touch(tmp_path / "ran"))
    members = []
    for number in range(16):
        key = ("../" * 4 + "out", "/" + str(tmp_path / "out"), "~/out", "a;touch ran;b")[number % 4] + str(number)
        members += [(f"{key}.png", image()), (f"{key}.txt", b"a caption")]
        members += [
            (f"{key}.{suffix}", hostile) for suffix in ("pyd", "pkl", "pickle", "pth", "pt", "npy", "cls", "py")
        ]
    write_tar(tmp_path / "data" / "00000.tar", members)
    before = {path for path in tmp_path.rglob("*") if "logs" not in path.parts}

    pattern = f"{tmp_path}/data/00000.tar"
    assert main(micro_flags(pattern, logs_dir=tmp_path / "logs", name="run", epochs=1, shard_index_dir=tmp_path)) == 0

    after = {path for path in tmp_path.rglob("*") if "logs" not in path.parts}
    assert {path.suffix for path in after - before} == {".npz"}


@pytest.mark.parametrize("name", ["pipe:touch ran", "PIPE:touch ran", "a.tar::pipe:touch ran"])
def test_no_shell_command_is_run_without_its_flag(tmp_path, monkeypatch, capfd, name):
    monkeypatch.chdir(tmp_path)
    write_shard("a.tar", 4)
    assert main(micro_flags(name, logs_dir=tmp_path / "logs", dataset_type="webdataset")) == 3
    assert "--allow-pipe-urls" in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("fault", ["deleted", "emptied", "garbage"])
def test_a_shard_that_breaks_while_it_is_read_is_counted(tmp_path, fault):
    shards = [write_shard(tmp_path / f"{number}.tar", 8) for number in range(2)]
    table = open_shards("p", [str(path) for path in shards], Selector(), Visit())
    if fault == "deleted":
        shards[1].unlink()
    else:
        shards[1].write_bytes(b"" if fault == "emptied" else b"x" * shards[1].stat().st_size)
    for index in range(8, 16):
        with pytest.raises(DataError):
            table.read("image", index).open(1000)
        assert json.dumps(table.fault(index, "broken"))
    assert table.read("text", 3) == "0_3"


def test_a_run_lists_what_it_left_out_by_shard_key_and_reason(tmp_path):
    (tmp_path / "data").mkdir()
    write_shard(tmp_path / "data" / "00000.tar", 40)
    long = ("k0.txt", b"x" * 1_000_000)
    torn = [(f"k2.{suffix}", data) for suffix, data in (("png", image()[:50]), ("txt", b"torn"))]
    write_tar(tmp_path / "data" / "00001.tar", [("k0.png", image()), long, ("k1.png", image()), *torn, *SOUND])
    flags = micro_flags(f"{tmp_path}/data/{{00000..00001}}.tar", logs_dir=tmp_path / "logs", name="run", epochs=1)
    assert main([*flags, "--bad-sample-budget", "0.1"]) == 0
    listed = read_lines(tmp_path / "logs" / "run" / "bad_samples.jsonl")
    assert [(line["source"][-9:], line["row"], line["path"]) for line in listed] == [
        ("00001.tar", row, f"k{row}") for row in range(3)
    ]


def test_mutated_shards_are_read_or_refused_in_one_line(tmp_path):
    sound = write_shard(tmp_path / "sound.tar", 5).read_bytes()
    rng = random.Random(0)
    path = tmp_path / "a.tar"
    started = time.monotonic()
    for _ in range(150):
        path.write_bytes(_mutate(bytearray(sound), rng))
        try:
            found = reasons(path)
        except OpenClipError as error:
            found = [str(error)]
        assert all(one.isprintable() or "\n  " in one for one in found)
    assert time.monotonic() - started < 60


def _mutate(content, rng):
    """Cut, overwrite or shift a tar, or change a header and mend its checksum."""
    kind = rng.randrange(4)
    place = rng.randrange(len(content))
    if kind == 0:
        return bytes(content[:place])
    if kind == 1:
        content[place:place] = rng.randbytes(rng.randrange(1, 1500))
    elif kind == 2:
        for _ in range(10):
            content[rng.randrange(len(content))] = rng.randrange(256)
    else:
        header = place // 512 * 512
        sizes = (b"77777777777\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-0000000001\0", b" " * 12)
        content[header + 124 : header + 136] = rng.choice(sizes)
        total = sum(content[header : header + 512]) - sum(content[header + 148 : header + 156]) + 256
        content[header + 148 : header + 156] = b"%06o\0 " % (total % 8**6)
    return bytes(content)
