"""Runs on made-up pairs, as upstream's own smoke test of the trainer has them."""

import json

import pytest

from training.main import main

FLAGS = ["--dataset-type", "synthetic", "--model", "ViT-tiny-16-64", "--batch-size", "4", "--epochs", "1"]
FLAGS += ["--warmup", "1", "--lr", "1e-3", "--wd", "0.1", "--zeroshot-frequency", "1", "--device", "cpu"]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_trainer_runs_on_synthetic_pairs(tmp_path, workers):
    flags = [*FLAGS, "--train-num-samples", "18", "--workers", workers, "--logs-dir", str(tmp_path), "--name", "run"]
    assert main(flags) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 4
    # All pairs of a batch are the same, so that none can be told from another: the loss stays at ln 4.
    assert summary["last_loss"] == pytest.approx(1.3863, abs=1e-3)
    assert (tmp_path / "run" / "checkpoints" / "epoch_1.pt").is_file()
    assert "dataset_type: synthetic" in (tmp_path / "run" / "params.txt").read_text()


def test_the_number_of_synthetic_pairs_must_be_given(tmp_path):
    assert main([*FLAGS, "--logs-dir", str(tmp_path)]) == 2
