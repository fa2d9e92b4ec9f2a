"""Runs of the recipe that writes labels: measured and shown, on two processes as on one, and in two goes as in one."""

import json

import pytest
import torch

from label_recipe import label_flags, make_labelled
from runs import load_payload, read_lines, run_trainer, train_losses
from training.main import main


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return make_labelled(folder, 40, name="train.csv"), make_labelled(folder, 6, seed=1, name="val.csv")


def flags(tables, logs, name, **more):
    chosen = {"epochs": 1, "batch_size": 8, "lr": 3e-3, "save_every_n_steps": 3, "logs_dir": logs, "name": name, **more}
    return label_flags(*tables, **chosen)


@pytest.fixture(scope="module")
def run(tables, tmp_path_factory):
    """Five steps of eight rows."""
    logs = tmp_path_factory.mktemp("logs")
    assert main(flags(tables, logs, "run")) == 0
    return logs / "run"


def last(run):
    return load_payload(run / "checkpoints" / "epoch_1.pt")


def evaluated(run):
    return [line["metrics"] for line in read_lines(run / "metrics.jsonl") if line["kind"] == "eval"][-1]


def test_figures_file_and_page_agree(run):
    found = evaluated(run)
    lines = (run / "results" / "labels-one_shot-prob-top3.res").read_text().splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(rows) == found["num_samples"] == 6
    for row in rows:
        assert len(row["tgts"]) == len(row["scores"]) == 3
        assert all(len(scores) == len(row["vocs"]) for scores in row["scores"])
    recalls = [sum(map(max, row["scores"])) / 3 for row in rows]
    assert found["label_recall@3"] == pytest.approx(sum(recalls) / 6, abs=1e-5)
    ends = dict(reversed(line.removeprefix("- ").split(" : ")) for line in lines[len(rows) :])
    assert list(ends) == ["sscr_R", "sscr_P", "sscr_F1", "div_mean", "div_std"]
    figures = [found[f"label_{name}@3"] for name in ("recall", "precision", "f1")]
    assert [float(ends[f"sscr_{name}"]) for name in "RP"] == pytest.approx(figures[:2], abs=1e-5)
    assert ends["sscr_F1"] == f"{figures[2]:.5f}"
    assert found["val_label_loss"] > 0
    page = (run / "report.html").read_text()
    for words in ("Images and their labels", "Labels of the data", "compared with those of the data by equal words"):
        assert words in page
    # What is said of retrieval is said of retrieval alone.
    assert "cosine similarities" not in page


def test_two_processes_train_and_measure_as_one_with_twice_the_rows(tables, run, tmp_path):
    status, output = run_trainer(flags(tables, tmp_path, "two", batch_size=4), 2)
    assert status == 0, output
    assert train_losses(tmp_path / "two") == pytest.approx(train_losses(run), rel=1e-4)
    one, two = last(run)["state_dict"], last(tmp_path / "two")["state_dict"]
    for name, value in one.items():
        # A bias of keys changes no attention: its gradient is rounding, which Adam brings to the size of others.
        atol = 1e-3 if name.endswith("in_proj_bias") else 1e-5
        torch.testing.assert_close(two[name], value, atol=atol, rtol=1e-4, msg=name)
    found = evaluated(tmp_path / "two")
    assert found.keys() == evaluated(run).keys()
    assert found["num_samples"] == 6
    assert found["val_label_loss"] == pytest.approx(evaluated(run)["val_label_loss"], rel=1e-3)


def test_a_run_that_was_cut_off_ends_with_the_same_bits(tables, run, tmp_path):
    middle = run / "checkpoints" / "epoch_0_step_3.pt"
    assert main([*flags(tables, tmp_path, "again"), "--resume", str(middle)]) == 0
    for name, value in last(run)["state_dict"].items():
        assert torch.equal(last(tmp_path / "again")["state_dict"][name], value), name
