"""Two processes skip what only one of them met, and a kill around it changes nothing."""

import json

import pytest
from PIL import Image

from kill_trials import Trainers, assert_as_uninterrupted, run_trial
from pairs import make_pairs, micro_flags
from runs import load_payload, read_lines
from training.data.order import epoch_order

pytestmark = pytest.mark.faults
ROWS, BATCH = 40, 8


@pytest.fixture(scope="module")
def trainers(tmp_path_factory):
    with Trainers(tmp_path_factory.mktemp("trainers")) as trainers:
        yield trainers


def make_flags(table, **extra):
    chosen = {"model": "ViT-nano", "batch_size": BATCH // 2, "save_every_n_steps": 2, "log_metric_every_n_steps": 1}
    return micro_flags(table, None, **chosen, **extra)


def skips(run):
    return [line["step"] for line in read_lines(run / "metrics.jsonl") if line.get("event") == "skipped_step"]


def told_skips(trial, whole):
    """Give the skips that a run tells once, and the summary's count of them."""
    assert skips(trial.run) == skips(whole.run)
    counts = [json.loads((run / "summary.json").read_text())["skipped_steps"] for run in (trial.run, whole.run)]
    assert counts[0] == counts[1]
    return skips(whole.run), counts[0]


@pytest.mark.parametrize("local_loss", [False, True])
def test_a_nan_in_the_images_of_one_process_is_skipped_by_both_before_and_after_a_kill(trainers, tmp_path, local_loss):
    table = make_pairs(tmp_path, ROWS, 1)
    # The second process has it: position 5 of the third batch of the first epoch.
    row = int(epoch_order(ROWS, 0, 0)[2 * BATCH + 5])
    Image.new("RGB", (48, 48), (120, 120, 120)).save(tmp_path / "images-pairs" / f"{row:05d}.jpg")
    flags = make_flags(table, local_loss=local_loss, ema_decay=0.9)
    job = {"ranks": 2, "is_standardised": True}
    whole = run_trial(trainers, tmp_path / "whole", flags, **job)
    for step in (3, 5):
        trial = run_trial(trainers, tmp_path / f"{step}", flags, [{"at": "after_step", "step": step}], **job)
        assert_as_uninterrupted(trial, whole)
        steps, count = told_skips(trial, whole)
        assert steps[0] == 3
        assert len(steps) == count == 2
    state = load_payload(whole.run / "checkpoints" / "epoch_2.pt")
    assert {int(entry["step"]) for entry in state["optimizer"]["state"].values()} == {8}


@pytest.mark.slow
def test_a_spike_on_one_process_is_skipped_by_both_before_and_after_a_kill(trainers, tmp_path):
    table = make_pairs(tmp_path, ROWS, 1)
    spiked = 137
    epoch, batch = divmod(spiked - 1, ROWS // BATCH)
    rows = epoch_order(ROWS, 0, epoch)[batch * BATCH + BATCH // 2 : (batch + 1) * BATCH]
    flags = make_flags(table, epochs=28, lr=1e-5, on_loss_spike="skip", save_frequency=7)
    job = {"ranks": 2, "spoil": {"keys": [f"pairs.csv:{row + 2}" for row in rows], "factor": 3.0}}
    whole = run_trial(trainers, tmp_path / "whole", flags, **job)
    for step in (135, 139):
        trial = run_trial(trainers, tmp_path / f"{step}", flags, [{"at": "after_step", "step": step}], **job)
        assert_as_uninterrupted(trial, whole)
        assert told_skips(trial, whole) == ([spiked], 1)
