import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

import mscoco_to_wds
import pack_wds
import verify_shards
from image_sets import WordTokenizer, pair_set
from open_clip.transform import image_transform, to_uint8
from shard_sets import image, write_tar
from training.data import SourceRequest, make_train_loader, open_source
from training.params.data import DataParams, ShardParams

PACK = Path(pack_wds.__file__)


def make_images(folder, names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image((number, 0, 0), form="JPEG" if name.endswith("jpg") else "PNG"))


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def members_of(path):
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def pack(folder, captions, *flags, out="out"):
    paths = ["--captions", str(folder / captions), "--images", str(folder / "images"), "--out", str(folder / out)]
    return pack_wds.main([*paths, "--per-shard", "2", *flags])


NAMES = [f"{number}.jpg" for number in range(5)]
PAIRS = [(name, f"Two dogs near {name[0]} chairs") for name in NAMES for _ in range(2)] + [("3.jpg", "A red cat")]
# The same captions in every form that a list may have.
FORMS = {
    "list.json": json.dumps([{"file_name": name, "caption": text} for name, text in PAIRS]),
    "columns.json": json.dumps({"image": [name for name, _ in PAIRS], "caption": [text for _, text in PAIRS], "n": 1}),
    "nested.json": json.dumps(
        [{"id": name[0], "regions": [{"phrase": text} for other, text in PAIRS if other == name]} for name in NAMES]
    ),
    "rows.jsonl": "".join(json.dumps({"image_id": name[0], "caption": text}) + "\n" for name, text in PAIRS),
    "urls.jsonl": "".join(json.dumps({"url": f"http://example.com/{name}?x=1", "text": t}) + "\n" for name, t in PAIRS),
    "rows.csv": "filepath,title\n" + "".join(f'./{name},"{text}"\n' for name, text in PAIRS),
    "rows.tsv": "filepath\ttitle\n" + "".join(f"{name}\t{text}\n" for name, text in PAIRS),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_list_gives_the_same_shards(tmp_path, capsys, form):
    make_images(tmp_path / "images", NAMES)
    (tmp_path / form).write_text(FORMS[form])
    assert pack(tmp_path, form, "--labels", "rules") == 0
    assert "5 samples, 3 shards" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "sizes.json").read_text()) == {"00000.tar": 2, "00001.tar": 2, "00002.tar": 1}
    members = members_of(tmp_path / "out" / "00001.tar")
    assert list(members) == ["2.jpg", "2.json", "2.txt", "3.jpg", "3.json", "3.txt"]
    assert members["3.jpg"] == (tmp_path / "images" / "3.jpg").read_bytes()
    assert members["3.txt"] == b"Two dogs near 3 chairs A red cat"
    assert json.loads(members["3.json"]) == {
        "key": "3",
        "path": "3.jpg",
        "caption": "Two dogs near 3 chairs A red cat",
        "captions": ["Two dogs near 3 chairs", "A red cat"],
        "labels": "dog, chair, cat",
    }
    assert verify_shards.main([str(tmp_path / "out")]) == 0


def test_packed_labels_are_a_column_of_our_loader(tmp_path):
    make_images(tmp_path / "images", NAMES)
    (tmp_path / "rows.csv").write_text(FORMS["rows.csv"])
    assert pack(tmp_path, "rows.csv", "--labels", "rules") == 0
    source = open_packed(tmp_path / "out", 3, "image", "text", "labels")
    assert [source.read("labels", row) for row in range(5)] == [*["dog, chair"] * 3, "dog, chair, cat", "dog, chair"]


def open_packed(folder, num_shards, *columns):
    pattern = f"{folder}/{{00000..{num_shards - 1:05d}}}.tar"
    return open_source(SourceRequest(pattern, "train", DataParams(), ShardParams(), columns=columns))


@pytest.mark.parametrize("ranks, workers", [(1, 0), (2, 0), (3, 0), (2, 2)])
def test_our_loader_gives_every_key_once_an_epoch_to_any_processes_and_workers(tmp_path, ranks, workers):
    names = [f"{number:02d}.png" for number in range(12)]
    make_images(tmp_path / "images", names)
    (tmp_path / "rows.csv").write_text("image,caption\n" + "".join(f"{name},a dog\n" for name in names))
    assert pack(tmp_path, "rows.csv") == 0
    source = open_packed(tmp_path / "out", 6, "image", "text")
    dataset = pair_set(source, to_uint8(image_transform(8, True)), WordTokenizer(), seed=5)
    for epoch in range(2):
        keys = []
        for rank in range(ranks):
            loader = make_train_loader(dataset, batch_size=2, rank=rank, world_size=ranks, seed=5, workers=workers)
            try:
                keys += [key.partition(":")[2] for batch in loader.epoch(epoch) for key in batch.keys]
            finally:
                loader.close()
        assert sorted(keys) == [name[:-4] for name in names]


def test_packed_shards_are_read_by_the_webdataset_library(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="the extra `shards` is not installed")
    make_images(tmp_path / "images", NAMES)
    (tmp_path / "rows.csv").write_text(FORMS["rows.csv"])
    assert pack(tmp_path, "rows.csv") == 0
    shards = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in samples] == ["0", "1", "2", "3", "4"]
    assert [sample["jpg"].size for sample in samples] == [(8, 8)] * 5
    assert samples[4]["json"]["caption"] == samples[4]["txt"] == "Two dogs near 4 chairs"


def test_what_cannot_be_packed_is_left_out_counted_and_named(tmp_path, capsys):
    make_images(
        tmp_path / "images", ["good.jpg", "a/same.jpg", "b/same.jpg", "mute.jpg", "plain.jpg", "x.y.png", "x_y.png"]
    )
    (tmp_path / "images" / "torn.jpg").write_bytes(image(form="JPEG", size=(90, 90))[:300])
    rows = [
        *("good.jpg,a dog", "gone.jpg,a dog", "same,a dog", "a/same.jpg,a cat", "mute.jpg,", "torn.jpg,a dog"),
        *("plain.jpg,very red", ",a dog", "too,many,fields", "x.y.png,a cat", "x_y.png,a bird"),
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["image,caption", *rows]) + "\n")
    assert pack(tmp_path, "rows.csv", "--labels", "rules") == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    left_out = {row["row"]: row["reason"] for row in manifest["left_out"]["rows"]}
    assert left_out == {
        "row 3 gone.jpg": "image not found",
        "row 4 same": "2 images are called so: a/same.jpg, b/same.jpg",
        "mute.jpg": "image without a caption",
        "torn.jpg": left_out["torn.jpg"],
        "plain.jpg": "fewer labels in its captions than 1",
        "row 9": "no image",
        "row 10": "it cannot be read as a row",
    }
    assert "torn or broken" in left_out["torn.jpg"]
    assert manifest["left_out"]["count"] == 7
    shown = capsys.readouterr().out
    assert "left out: 2 more, named in manifest.json" in shown
    # A key ends at its first dot, and no two samples have the same.
    keys = [name for shard in manifest["shards"] for name in members_of(tmp_path / "out" / shard)]
    assert [key for key in keys if key.endswith("json")] == ["a/same.json", "good.json", "x_y.json", "x_y-2.json"]


def test_a_wrong_list_or_flag_is_answered_with_what_to_do(tmp_path, capsys):
    make_images(tmp_path / "images", ["a.jpg"])
    cases = {
        "coco.json": ('{"images": [], "annotations": []}', [], 3, "pack it with tools/mscoco_to_wds.py"),
        "odd.json": ('{"a": [1], "b": [1, 2]}', [], 3, "object of equally long lists"),
        "torn.json": ("[{", [], 3, "is no JSON"),
        "a.parquet": ("x", [], 3, "none of .json, .jsonl, .csv and .tsv"),
        "names.csv": ("picture,says\na.jpg,a dog\n", [], 2, "--image-field is needed"),
        "field.csv": ("image,caption\na.jpg,a dog\n", ["--caption-field", "captoin"], 2, "Did you mean caption?"),
        "extractor.csv": ("image,caption\na.jpg,a dog\n", ["--labels", "rule"], 2, "Did you mean rules?"),
        "none.csv": (
            "image,caption\nb.jpg,a dog\n",
            [],
            3,
            "no row can be packed; the first: row 2 b.jpg: image not found",
        ),
    }
    for name, (content, flags, status, message) in cases.items():
        (tmp_path / name).write_text(content)
        assert pack(tmp_path, name, *flags) == status, name
        assert message in capsys.readouterr().err, name
    assert pack(tmp_path, "missing.json") == 3
    assert "missing.json cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_process_goes_on_and_ends_with_equal_bytes(tmp_path):
    make_images(tmp_path / "images", [f"{number:03d}.jpg" for number in range(100)])
    lines = [f"{number:03d}.jpg,a dog\n" for number in range(100)]
    (tmp_path / "rows.csv").write_text("image,caption\n" + "".join(lines))
    command = [sys.executable, str(PACK), "--captions", "rows.csv", "--images", "images", "--per-shard", "2"]
    process = subprocess.Popen([*command, "--out", "killed"], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while process.poll() is None and not (tmp_path / "killed" / "00003.tar").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    assert pack(tmp_path, "rows.csv", out="killed") == 0
    assert pack(tmp_path, "rows.csv", out="whole") == 0
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


def make_coco(root, split="val2017"):
    (root / "annotations").mkdir(parents=True)
    make_images(root / split, [f"{number:012d}.jpg" for number in (139, 9, 285, 632, 724, 776)])
    (root / split / f"{776:012d}.jpg").write_bytes(b"\xff\xd8torn")
    images = [{"id": number, "file_name": f"{number:012d}.jpg"} for number in (139, 285, 9, 632, 724, 776, 785)]
    said = [
        (139, "A woman at a table. "),
        (9, " A bowl\n"),
        (139, "A room with  chairs"),
        (285, "A bear"),
        (724, "A sign"),
    ]
    said += [(776, "Two bears"), (785, "A skier"), (5, "A ghost"), (632, " ")]
    annotations = [{"id": n, "image_id": image, "caption": text} for n, (image, text) in enumerate(said)]
    content = {"images": images, "annotations": annotations}
    (root / "annotations" / f"captions_{split}.json").write_text(json.dumps(content))


def test_coco_gives_folders_of_image_captions_and_record(tmp_path, capsys):
    make_coco(tmp_path / "coco")
    assert mscoco_to_wds.main([str(tmp_path / "coco"), "--per-shard", "2"]) == 0
    out = tmp_path / "coco" / "coco_valid"
    files = files_of(out)
    expected = [
        f"{folder}/{number:012d}.{kind}"
        for folder, numbers in (("00000", (9, 139)), ("00001", (285, 724)))
        for number in numbers
        for kind in ("jpg", "json", "txt")
    ]
    assert sorted(files) == sorted([*expected, "manifest.json", "sizes.json"])
    assert files["00000/000000000139.txt"] == b"A woman at a table. A room with  chairs"
    assert files["00000/000000000139.json"] == (
        b'{"path": "000000000139.jpg", "cap": "A woman at a table. A room with  chairs", "split": "val2017"}'
    )
    assert files["00000/000000000009.jpg"] == (tmp_path / "coco" / "val2017" / "000000000009.jpg").read_bytes()
    left_out = {row["row"]: row["reason"] for row in json.loads(files["manifest.json"])["left_out"]["rows"]}
    assert left_out.pop("000000000776.jpg").startswith("not an image")
    assert left_out == {
        "annotation 7": "no image has its image_id 5",
        "000000000632.jpg": "image without a caption",
        "000000000785.jpg": "image not found",
    }
    shown = capsys.readouterr().out
    assert "4 samples, 2 shards" in shown
    assert "tar --sort=name -cf 00000.tar 00000" in shown


def test_coco_gives_the_tars_of_those_folders_and_the_same_again(tmp_path):
    make_coco(tmp_path / "coco", "train2017")
    flags = [str(tmp_path / "coco"), "--split", "train2017", "--per-shard", "2"]
    assert mscoco_to_wds.main([*flags, "--out", str(tmp_path / "folders")]) == 0
    assert mscoco_to_wds.main([*flags, "--direct"]) == 0
    assert mscoco_to_wds.main([*flags, "--direct", "--out", str(tmp_path / "again")]) == 0
    tars = tmp_path / "coco" / "coco_train"
    assert files_of(tars) == files_of(tmp_path / "again")
    for number in ("00000", "00001"):
        assert members_of(tars / f"{number}.tar") == files_of(tmp_path / "folders" / number)
    assert mscoco_to_wds.main([*flags, "--direct", "--labels", "rules", "--out", str(tmp_path / "labels")]) == 0
    record = json.loads(members_of(tmp_path / "labels" / "00000.tar")["000000000139.json"])
    assert record["labels"] == "woman, table, room, chair"


def test_tars_that_were_made_of_the_folders_are_held_to_the_manifest(tmp_path, capsys):
    make_coco(tmp_path / "coco")
    assert mscoco_to_wds.main([str(tmp_path / "coco"), "--per-shard", "2"]) == 0
    out = tmp_path / "coco" / "coco_valid"
    make_tar(out, "00000")
    assert verify_shards.main([str(out)]) == 3
    assert "00001: manifest.json names it and it is a folder of which no tar was made" in capsys.readouterr().err
    make_tar(out, "00001")
    assert verify_shards.main([str(out)]) == 0
    (out / "00001" / "000000000285.txt").write_text("A bean")
    make_tar(out, "00001")
    assert verify_shards.main([str(out)]) == 3
    assert "00001.tar: its hash is not the one of manifest.json" in capsys.readouterr().err


def make_tar(out, name):
    """As ``tar --sort=name -cf NAME.tar NAME`` does."""
    with tarfile.open(out / f"{name}.tar", "w") as archive:
        archive.add(out / name, arcname=name)


def test_a_killed_packing_of_folders_ends_with_equal_bytes(tmp_path):
    make_coco(tmp_path / "coco")
    flags = [str(tmp_path / "coco"), "--per-shard", "2", "--out"]
    assert mscoco_to_wds.main([*flags, str(tmp_path / "whole")]) == 0
    for leftover in ("00000", ".tmp-00000", ".tmp-00001"):
        (tmp_path / "killed" / leftover).mkdir(parents=True)
        (tmp_path / "killed" / leftover / "half.jpg").write_bytes(b"half")
    settings = json.loads((tmp_path / "whole" / "manifest.json").read_text())["settings"]
    (tmp_path / "killed" / "packing.jsonl").write_text(json.dumps({"settings": settings}) + "\n")
    assert mscoco_to_wds.main([*flags, str(tmp_path / "killed")]) == 0
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


def test_a_root_that_is_not_cocos_is_told_what_belongs_there(tmp_path, capsys):
    assert mscoco_to_wds.main([str(tmp_path)]) == 3
    assert "captions_val2017.json cannot be read: No such file" in capsys.readouterr().err
    (tmp_path / "annotations").mkdir()
    for content in ("[]", '{"images": [{"id": "1"}], "annotations": []}', '{"images": 3}'):
        (tmp_path / "annotations" / "captions_val2017.json").write_text(content)
        assert mscoco_to_wds.main([str(tmp_path)]) == 3
        assert "is not of the form of COCO's captions" in capsys.readouterr().err


SOUND = [("a.jpg", image(form="JPEG")), ("a.txt", b"a dog"), ("a.json", b"{}")]
# What may be wrong in a shard, and what is said of it.
FAULTS = {
    "torn": ([("b.jpg", image(form="JPEG", size=(90, 90))[:300]), ("b.txt", b"x")], "b: jpg: image is torn"),
    "mute": ([("b.jpg", image(form="JPEG"))], "b: no caption"),
    "blind": ([("b.txt", b"x")], "b: no image"),
    "empty": ([("b.png", image()), ("b.txt", b" ")], "b: txt (txt) is empty"),
    "json": ([("b.png", image()), ("b.txt", b"x"), ("b.json", b"{")], "b: json cannot be read"),
    "apart": (
        [("b.png", image()), ("c.png", image()), ("b.txt", b"x"), ("c.txt", b"x")],
        "the members of 2 samples do not stand together, b for one",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verifying_names_what_is_wrong_and_ends_with_status_3(tmp_path, capsys, fault):
    members, message = FAULTS[fault]
    write_tar(tmp_path / "00000.tar", [*SOUND, *members])
    assert verify_shards.main([str(tmp_path)]) == 3
    output = capsys.readouterr()
    assert f"00000.tar: {message}" in output.err
    assert "1 shards, 1 sound samples" in output.out


def test_verifying_compares_with_the_manifest_and_the_counts(tmp_path, capsys):
    make_images(tmp_path / "images", NAMES)
    (tmp_path / "rows.csv").write_text(FORMS["rows.csv"])
    assert pack(tmp_path, "rows.csv") == 0
    out = tmp_path / "out"
    content = bytearray((out / "00000.tar").read_bytes())
    # The hour of a header's member: a change that no reader sees, with its checksum made right.
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = archive.getmembers()[0]
    member.mtime = 1
    content[:512] = member.tobuf(tarfile.PAX_FORMAT)[:512]
    (out / "00000.tar").write_bytes(content)
    (out / "00001.tar").unlink()
    write_tar(out / "00009.tar", SOUND)
    capsys.readouterr()
    assert verify_shards.main([str(out)]) == 3
    shown = capsys.readouterr().err
    assert "00000.tar: its hash is not the one of manifest.json" in shown
    assert "00001.tar: manifest.json names it and it is not there" in shown
    assert "00009.tar: manifest.json does not name it" in shown
    assert "sizes.json has no entry for 00009.tar" in shown


def test_verifying_says_where_a_shard_breaks_off_and_goes_on(tmp_path, capsys):
    write_tar(tmp_path / "00000.tar", SOUND)
    (tmp_path / "00000.tar").write_bytes((tmp_path / "00000.tar").read_bytes()[:1000])
    write_tar(tmp_path / "00001.tar", SOUND)
    (tmp_path / "sizes.json").write_text('{"00000.tar": 1, "00001.tar": 1}')
    assert verify_shards.main([str(tmp_path), str(tmp_path / "none")]) == 3
    output = capsys.readouterr()
    assert "00000.tar: cut short at byte 1000" in output.err
    assert "counts beside the shards say 2 samples, 1 are sound" in output.err
    assert "none holds no shard" in output.err
    assert "2 shards, 1 sound samples" in output.out
