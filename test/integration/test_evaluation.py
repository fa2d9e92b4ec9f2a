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
from runs import read_gallery, read_lines, run_trainer
from training.main import main

OWN = f"{Path(__file__).resolve().parents[1] / 'support' / 'own_evaluation.py'}:WithCloseness"


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
    flags += ["--task", OWN]
    status, output = run_trainer(flags, processes)
    assert status == 0, output
    run = Path(folder) / f"of-{processes}"
    listed = run / "bad_samples.jsonl"
    # Two evaluations may give a row to two processes, of which each lists it.
    bad = sorted({line["row"] for line in read_lines(listed)}) if listed.exists() else []
    gallery = read_gallery(run)
    assert (run / "results" / "closeness.txt").read_text().endswith(" rows\n")
    shown = json.loads((run / "evaluations.json").read_text())["evaluations"]["accuracy"]["parts"]
    return read_lines(run / "checkpoints" / "results.jsonl")[-1], bad, (gallery, shown)


def test_processes_with_uneven_shares_find_what_one_finds(weights, tmp_path):
    val = make_pairs(tmp_path, 11, 3, name="val.csv")
    rows = shuffle_rows(val)
    torn = rows[5][0]
    Path(torn).write_bytes(Path(torn).read_bytes()[:400])
    alone, bad, (gallery, shown) = evaluate(val, weights, tmp_path, 1)
    assert alone["num_samples"] == 30
    assert alone["num_images"] == 10
    assert 0 < alone["closeness"] < 1
    assert bad == [number for number, row in enumerate(rows, 2) if row[0] == torn]
    together, bad_together, gallery_together = evaluate(val, weights, tmp_path, 3)
    # The loss goes over blocks of the global batch, which is larger with more processes.
    assert alone.pop("clip_val_loss") != together.pop("clip_val_loss")
    assert together == pytest.approx(alone, rel=1e-6)
    assert bad_together == bad
    assert gallery_together == (gallery, shown)
    assert sum(sum(row[1:]) for row in shown[0]["rows"]) == 30
    shown = {example["query"] for example in gallery["captions"]}
    assert shown <= {row[1] for row in rows if row[0] != torn}


def test_a_process_without_a_share_waits_for_nobody(weights, tmp_path):
    val = make_pairs(tmp_path, 1, 1, name="val.csv")
    alone, _, _ = evaluate(val, weights, tmp_path, 1)
    together, _, _ = evaluate(val, weights, tmp_path, 2)
    assert together == pytest.approx(alone, rel=1e-6)
    assert alone["num_samples"] == 1


def steps_evaluated(run):
    return [(line["step"], line["metrics"]) for line in read_lines(run / "metrics.jsonl") if line["kind"] == "eval"]


def by_steps(folder, name, **flags):
    folder.mkdir(exist_ok=True)
    data = make_pairs(folder, 20, 1), make_pairs(folder, 8, 1, seed=1, name="val.csv")
    chosen = {"val_every_n_steps": 2, "save_every_n_steps": 1, "lr_scheduler": "const", **flags}
    return [*micro_flags(*data, logs_dir=folder, name=name, epochs=2, batch_size=4, **chosen), "--task", OWN]


def test_an_evaluation_of_ones_own_is_made_every_few_steps_and_stands_in_the_report(tmp_path):
    words = by_steps(tmp_path, "run")
    assert main(words) == 0
    run = tmp_path / "run"
    found = steps_evaluated(run)
    # Five steps an epoch: every second one, and the end of each epoch.
    assert [step for step, _ in found] == [2, 4, 5, 6, 8, 10]
    assert all({"closeness", "image_to_text_R@1"} <= metrics.keys() for _, metrics in found)
    results = read_lines(run / "checkpoints" / "results.jsonl")
    assert [(line["epoch"], line.get("step")) for line in results] == [
        (0, 2),
        (0, 4),
        (1, None),
        (1, 6),
        (1, 8),
        (2, None),
    ]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Larger is better." in page
    assert '<section id="shown-closeness">' in page
    # Chosen alone, and by a name that there is not.
    assert main([*by_steps(tmp_path / "one", "one"), "--evaluate", "closeness"]) == 0
    assert set(steps_evaluated(tmp_path / "one" / "one")[0][1]) == {"closeness", "epoch", "step"}
    assert main([*by_steps(tmp_path / "none", "none"), "--evaluate", "closenes"]) == 2


@pytest.mark.parametrize("step", [4, 5])
def test_a_run_cut_off_between_save_and_evaluation_evaluates_when_it_goes_on(tmp_path, monkeypatch, step):
    words = by_steps(tmp_path, "run")
    (tmp_path / "stop").write_text(str(step))
    monkeypatch.setenv("STOP_FILE", str(tmp_path / "stop"))
    assert main(words) == 3
    assert step not in dict(steps_evaluated(tmp_path / "run"))
    (tmp_path / "stop").unlink()
    assert main([*words, "--resume", "latest"]) == 0
    assert [step for step, _ in steps_evaluated(tmp_path / "run")] == [2, 4, 5, 6, 8, 10]


def test_a_run_that_only_evaluates_and_has_nothing_to_measure_says_so(weights, tmp_path, capfd):
    recipe = tmp_path / "silent.py"
    recipe.write_text(
        "from training.tasks import ClipTask\n\n\nclass Silent(ClipTask):\n    name = 'silent'\n\n"
        "    def evaluations(self, kit):\n        return ()\n"
    )
    val = make_pairs(tmp_path, 2, 1, name="val.csv")
    words = micro_flags(val=val, pretrained=weights, logs_dir=tmp_path, name="run")
    assert main([*words, "--task", f"{recipe}:Silent"]) == 2
    assert "the recipe silent offers no evaluation" in capfd.readouterr().err
