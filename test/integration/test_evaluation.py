"""Evaluation in real runs of the trainer, with shares of different sizes and images that cannot be read."""

import csv
import json
import random
from pathlib import Path

import pytest
import torch

import open_clip
from open_clip.checkpoint import write_safetensors
from pairs import make_pairs, micro_flags
from runs import read_lines, run_trainer


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    write_safetensors(open_clip.create_model("ViT-micro-8-32").state_dict(), path)
    return path


def shuffle_rows(path):
    header, *rows = list(csv.reader(path.open(newline="", encoding="utf-8")))
    random.Random(1).shuffle(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return rows


def evaluate(val, weights, folder, processes):
    flags = micro_flags(
        val=val, pretrained=weights, logs_dir=folder, name=f"of-{processes}", bad_sample_budget=0.5, batch_size=4
    )
    status, output = run_trainer(flags, processes)
    assert status == 0, output
    run = Path(folder) / f"of-{processes}"
    listed = run / "bad_samples.jsonl"
    bad = sorted(line["row"] for line in read_lines(listed)) if listed.exists() else []
    gallery = json.loads((run / "gallery.json").read_text())
    return read_lines(run / "checkpoints" / "results.jsonl")[-1], bad, gallery


def test_processes_with_uneven_shares_find_what_one_finds(weights, tmp_path):
    val = make_pairs(tmp_path, 11, 3, name="val.csv")
    rows = shuffle_rows(val)
    torn = rows[5][0]
    Path(torn).write_bytes(Path(torn).read_bytes()[:400])
    alone, bad, gallery = evaluate(val, weights, tmp_path, 1)
    assert alone["num_samples"] == 30
    assert alone["num_images"] == 10
    assert bad == [number for number, row in enumerate(rows, 2) if row[0] == torn]
    together, bad_together, gallery_together = evaluate(val, weights, tmp_path, 3)
    # The loss goes over blocks of the global batch, which is larger with more processes.
    assert alone.pop("clip_val_loss") != together.pop("clip_val_loss")
    assert together == pytest.approx(alone, rel=1e-6)
    assert bad_together == bad
    assert gallery_together == gallery
    shown = {example["query"] for example in gallery["captions"]}
    assert shown <= {row[1] for row in rows if row[0] != torn}


def test_a_process_without_a_share_waits_for_nobody(weights, tmp_path):
    val = make_pairs(tmp_path, 1, 1, name="val.csv")
    alone, _, _ = evaluate(val, weights, tmp_path, 1)
    together, _, _ = evaluate(val, weights, tmp_path, 2)
    assert together == pytest.approx(alone, rel=1e-6)
    assert alone["num_samples"] == 1
