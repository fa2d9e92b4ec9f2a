import hashlib
import json
import tarfile

import pytest

from open_clip.errors import DataError
from shard_sets import image
from training.data.shards import Selector, Visit, open_shards
from training.data.shards.pack import LeftOut, Packing, read_manifest
from training.data.shards.write import Sample, read_image_file, write_shard


class Killed(BaseException):
    """What no handler of errors takes."""


def make(row, number):
    if row % 4 == 1:
        raise DataError("no caption")
    return Sample(f"key-{row:02d}", {"txt": f"caption {row}".encode(), "png": image((row, 0, 0)), "json": b"{}"})


def packing(make=make, rows=11, per_shard=3, **others):
    return Packing(range(rows), make, lambda row: f"row {row}", {"rows": "digest"}, per_shard, **others)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_shard_but_the_last_has_the_number_asked_for_whatever_is_left_out(tmp_path):
    packed = packing(refused=[LeftOut("line 3", "no image")]).run(tmp_path)
    assert [shard.samples for shard in packed.shards.values()] == [3, 3, 2]
    assert json.loads((tmp_path / "sizes.json").read_text()) == {"00000.tar": 3, "00001.tar": 3, "00002.tar": 2}
    assert [str(row) for row in packed.left_out] == [
        "line 3: no image",
        *(f"row {row}: no caption" for row in (1, 5, 9)),
    ]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["samples"] == 8
    assert manifest["left_out"]["count"] == 4
    assert manifest["left_out"]["reasons"] == {"no caption": 3, "no image": 1}
    for name, shard in manifest["shards"].items():
        content = (tmp_path / name).read_bytes()
        assert shard == {
            "samples": packed.shards[name].samples,
            "num_bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    assert read_manifest(tmp_path) == packed


def test_members_stand_by_key_and_hold_nothing_of_this_machine(tmp_path):
    packing().run(tmp_path)
    with tarfile.open(tmp_path / "00000.tar") as archive:
        members = archive.getmembers()
    names = [f"key-{row:02d}.{suffix}" for row in (0, 2, 3) for suffix in ("json", "png", "txt")]
    assert [member.name for member in members] == names
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    table = open_shards("s", sorted(map(str, tmp_path.glob("*.tar"))), Selector(), Visit())
    assert [table.read("text", row) for row in range(len(table))] == [f"caption {n}" for n in (0, 2, 3, 4, 6, 7, 8, 10)]


def test_long_and_foreign_keys_come_back(tmp_path):
    keys = ["k" * 300, "ключ", "with blank/and folder"]
    write_shard(tmp_path / "a.tar", [Sample(key, {"txt": b"x", "png": image()}) for key in keys])
    table = open_shards("s", [str(tmp_path / "a.tar")], Selector(), Visit())
    assert [table.key(row) for row in range(3)] == [f"a.tar:{key}" for key in keys]


@pytest.mark.parametrize("last", range(10))
def test_a_packing_that_was_killed_twice_ends_with_the_bytes_of_one_that_was_not(tmp_path, last):
    def run(stop=None):
        rows = []

        def make_until(row, number):
            if row == stop:
                raise Killed
            rows.append(row)
            return make(row, number)

        try:
            packing(make_until).run(tmp_path / "killed")
        except Killed:
            assert not (tmp_path / "killed" / "manifest.json").exists()
        return rows

    packing().run(tmp_path / "whole")
    run(last)
    # Shards that were whole are not made again: each takes four rows, of which one is left out.
    assert run(10)[0] == last // 4 * 4
    assert run() == [8, 9, 10]
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


def test_a_kill_between_a_shard_and_its_note_or_inside_the_note_costs_that_shard(tmp_path):
    packing().run(tmp_path / "whole")

    def write_and_die(path, samples):
        write_shard(path, samples)
        if path.name == "00001.tar":
            raise Killed

    with pytest.raises(Killed):
        packing(write=lambda path, samples: write_and_die(path, samples) or write_shard(path, [])).run(tmp_path / "a")
    # What it noted of the first shard was wrong on purpose: an empty tar, of another size than what stands there.
    with (tmp_path / "a" / "packing.jsonl").open("ab") as file:
        file.write(b'{"name": "00001.ta')
    (tmp_path / "a" / "00000.tar").write_bytes(b"torn")
    packing().run(tmp_path / "a")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "whole")


def test_a_folder_of_other_rows_or_with_a_changed_shard_is_refused(tmp_path):
    packing().run(tmp_path)
    with pytest.raises(DataError, match=r"other rows or settings \(per_shard changed\)"):
        packing(per_shard=4).run(tmp_path)
    (tmp_path / "00001.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"00001.tar is not what manifest.json says"):
        packing().run(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="no manifest of packed shards"):
        packing().run(tmp_path)


def test_rows_that_all_are_left_out_end_with_the_first_reason_and_leave_no_shard(tmp_path):
    def refuse(row, number):
        raise DataError("image not found")

    with pytest.raises(DataError, match="no row can be packed; the first: row 0: image not found"):
        packing(refuse).run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_image_files_are_decoded_before_they_are_packed(tmp_path):
    whole = image(form="JPEG", size=(90, 90))
    (tmp_path / "a.png").write_bytes(whole)
    (tmp_path / "torn.jpg").write_bytes(whole[:300])
    (tmp_path / "b.gif").write_bytes(image(form="GIF"))
    assert read_image_file(str(tmp_path / "a.png")) == ("jpg", whole)
    for name, reason in (("torn.jpg", "torn"), ("b.gif", "not a JPEG, PNG or WebP"), ("c.jpg", "image not found")):
        with pytest.raises(DataError, match=reason):
            read_image_file(str(tmp_path / name))
