"""Training on tar shards through the command line."""

import csv
import gzip
import json
import multiprocessing
from pathlib import Path

import pytest

from pairs import make_pairs, micro_flags
from runs import read_gallery, read_lines
from shard_sets import image, write_shards, write_tar
from training.main import main


def pattern(folder, count):
    return f"{folder}/{{00000..{count - 1:05d}}}.tar"


def flags(tmp_path, train, **more):
    return micro_flags(train, logs_dir=tmp_path / "logs", name="run", epochs=1, **more)


def run_folder(tmp_path):
    return tmp_path / "logs" / "run"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_on_shards_trains_evaluates_and_shows_examples(tmp_path, workers):
    write_shards(tmp_path / "train", [20, 7, 16])
    write_shards(tmp_path / "val", [9])
    chosen = flags(tmp_path, pattern(tmp_path / "train", 3), val=pattern(tmp_path / "val", 1), workers=workers)
    assert main(chosen) == 0
    summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
    assert summary["steps"] == 43 // 8
    assert summary["metrics"]["num_samples"] == 9
    thumbnails = read_gallery(run_folder(tmp_path))["thumbnails"]
    assert all(one["uri"].startswith("data:image/jpeg") for one in thumbnails.values())
    assert not multiprocessing.active_children()


def test_a_missing_shard_ends_the_run_before_its_first_step(tmp_path, capfd):
    write_shards(tmp_path / "train", [20, 20])
    assert main(flags(tmp_path, pattern(tmp_path / "train", 3))) == 3
    assert "00002.tar" in capfd.readouterr().err


def test_dirty_samples_are_listed_with_shard_key_and_reason(tmp_path):
    write_shards(tmp_path / "train", [30])
    members = [("k1.png", image()[:40]), ("k1.txt", b"torn"), ("k2.png", image()), ("k2.txt", b" ")]
    write_tar(tmp_path / "train" / "00001.tar", [*members, ("k3.png", image())])
    assert main(flags(tmp_path, pattern(tmp_path / "train", 2), bad_sample_budget=0.2)) == 0
    listed = read_lines(run_folder(tmp_path) / "bad_samples.jsonl")
    assert {line["path"] for line in listed} == {"k1", "k2", "k3"}
    assert all(line["source"].endswith("00001.tar") and line["reason"] for line in listed)


def test_more_dirt_than_the_budget_allows_ends_the_run(tmp_path, capfd):
    write_shards(tmp_path / "train", [30])
    write_tar(tmp_path / "train" / "00001.tar", [("k3.png", image())])
    assert main(flags(tmp_path, pattern(tmp_path / "train", 2))) == 3
    assert "--bad-sample-budget" in capfd.readouterr().err


def test_shards_without_one_sound_image_end_the_run(tmp_path):
    members = [(f"{n}.{end}", b"x") for n in range(200) for end in ("jpg", "txt")]
    (tmp_path / "train").mkdir()
    write_tar(tmp_path / "train" / "00000.tar", members)
    assert main(flags(tmp_path, pattern(tmp_path / "train", 1), bad_sample_budget=1.0)) == 3


def test_sources_are_drawn_by_weight(tmp_path):
    write_shards(tmp_path / "a", [10])
    write_shards(tmp_path / "b", [10])
    sources = f"{tmp_path}/a/00000.tar::{tmp_path}/b/00000.tar"
    chosen = flags(tmp_path, sources, dataset_resampled=True, train_num_samples=64)
    assert main([*chosen, "--train-data-upsampling-factors", "1::3"]) == 0
    assert json.loads((run_folder(tmp_path) / "summary.json").read_text())["steps"] == 8


def test_pipes_are_refused_without_their_flag(tmp_path, capfd):
    assert main(flags(tmp_path, f"pipe:touch {tmp_path}/ran; cat x.tar")) == 3
    assert "--allow-pipe-urls" in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_upstreams_order_trains_too(tmp_path, workers):
    pytest.importorskip("webdataset", reason="the extra `shards` is not installed")
    write_shards(tmp_path / "train", [20, 17, 27])
    chosen = flags(tmp_path, pattern(tmp_path / "train", 3), shard_order="buffer", train_num_samples=64)
    chosen += ["--workers", str(workers)]
    assert main(chosen) == 0
    assert json.loads((run_folder(tmp_path) / "summary.json").read_text())["steps"] == 8


def test_the_same_pairs_have_the_same_figures_as_table_folder_and_shards(tmp_path):
    table = make_pairs(tmp_path, num_images=12, captions_each=3)
    with table.open(newline="") as file:
        rows = [(Path(row["img_key"]), row["caption_key"]) for row in csv.DictReader(file)]
    for path in {path for path, _ in rows}:
        path.with_suffix(".txt").write_text("\n".join(caption for one, caption in rows if one == path))
    members = [
        (f"{number:04d}.{suffix}", content)
        for number, (path, caption) in enumerate(rows)
        for suffix, content in (("jpg", path.read_bytes()), ("txt", caption.encode()))
    ]
    (tmp_path / "shards").mkdir()
    for shard, start in enumerate((0, 26)):
        # The three captions of an image may stand in two shards.
        write_tar(tmp_path / "shards" / f"{shard:05d}.tar", members[start : 26 if shard == 0 else None])
    places = {"table": table, "folder": rows[0][0].parent, "shards": pattern(tmp_path / "shards", 2)}
    found = {}
    for name, place in places.items():
        chosen = micro_flags(table, val=place, logs_dir=tmp_path / "logs", name=name, epochs=1, workers=0)
        assert main(chosen) == 0
        found[name] = json.loads((tmp_path / "logs" / name / "summary.json").read_text())["metrics"]
    assert found["table"] == found["folder"] == found["shards"]
    assert found["shards"]["num_images"] == 12
    assert found["shards"]["num_texts"] == 36


@pytest.mark.parametrize("name", ["00000.tar", "00000.tar.gz", "00000.tgz"])
def test_a_packed_shard_is_named_with_the_flag_that_reads_it(tmp_path, name, capfd):
    pytest.importorskip("webdataset", reason="the extra `shards` is not installed")
    plain = write_shards(tmp_path / "plain", [16]) / "00000.tar"
    (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
    assert main(flags(tmp_path, str(tmp_path / name))) == 3
    assert "compressed with gzip" in (error := capfd.readouterr().err)
    assert "--shard-order buffer" in error
    chosen = micro_flags(str(tmp_path / name), logs_dir=tmp_path / "logs", name="streamed", epochs=1, workers=0)
    assert main([*chosen, "--shard-order", "buffer", "--train-num-samples", "16"]) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_without_one_sound_image_ends_the_run_with_a_reason(tmp_path, workers, capfd):
    pytest.importorskip("webdataset", reason="the extra `shards` is not installed")
    (tmp_path / "train").mkdir()
    for shard in range(2):
        members = [(f"{n}.{end}", b"x") for n in range(20) for end in ("jpg", "txt")]
        write_tar(tmp_path / "train" / f"{shard:05d}.tar", members)
    chosen = flags(tmp_path, pattern(tmp_path / "train", 2), shard_order="buffer", train_num_samples=32)
    assert main([*chosen, "--workers", str(workers)]) == 3
    last = capfd.readouterr().err.splitlines()[-1]
    assert "Traceback" not in last


def test_captions_of_another_column_train_as_those_of_the_flag_of_their_own(tmp_path):
    write_shards(tmp_path / "train", [20])
    losses = []
    for name, more in (("a", ["--json-text-key", "caption"]), ("b", ["--columns", "text=json:caption"])):
        folder = tmp_path / name
        assert main([*flags(folder, pattern(tmp_path / "train", 1)), *more]) == 0
        losses.append(json.loads((run_folder(folder) / "summary.json").read_text())["last_loss"])
    assert losses[0] == losses[1]


def test_a_column_that_the_shards_lack_ends_the_run_as_a_wrong_flag(tmp_path, capfd):
    write_shards(tmp_path / "train", [20])
    assert main([*flags(tmp_path, pattern(tmp_path / "train", 1)), "--columns", "text=short.txt"]) == 2
    assert "has no column 'text'" in (said := capfd.readouterr().err)
    assert "It has: png, txt, json, json:caption" in said
