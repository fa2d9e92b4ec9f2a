"""Averaged weights and learning rates by depth in real runs: saved, resumed, evaluated."""

import json
import signal

import pytest
import torch

from pairs import make_pairs, micro_flags
from runs import assert_same_state, kill_group, load_payload, start_trainer, train_losses, wait_for_step
from training.main import main


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return make_pairs(folder, 20, 2, name="train.csv"), make_pairs(folder, 6, 2, seed=1, name="val.csv")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def metrics_of(run):
    return json.loads((run / "summary.json").read_text())["metrics"]


def test_an_average_is_evaluated_in_place_of_the_weights_and_changes_no_step(data, tmp_path):
    assert main(micro_flags(*data, logs_dir=tmp_path, name="plain")) == 0
    assert main(micro_flags(*data, logs_dir=tmp_path, name="average", ema_decay=0.9)) == 0
    plain, average = (tmp_path / name for name in ("plain", "average"))
    assert train_losses(plain) == train_losses(average)
    payloads = [load_payload(run / "checkpoints" / "epoch_2.pt") for run in (plain, average)]
    assert_same_state(payloads[0]["state_dict"], payloads[1]["state_dict"])
    assert "state_dict_ema" not in payloads[0]
    assert payloads[1]["state_dict_ema"].keys() == payloads[1]["state_dict"].keys()
    assert metrics_of(plain)["clip_val_loss"] != metrics_of(average)["clip_val_loss"]
    # A file's average can be started from, and is what the run evaluated.
    weights = average / "checkpoints" / "epoch_2.pt"
    assert main(micro_flags(None, data[1], logs_dir=tmp_path, name="e", pretrained=weights, pretrained_ema=True)) == 0
    assert metrics_of(tmp_path / "e")["clip_val_loss"] == pytest.approx(metrics_of(average)["clip_val_loss"], rel=1e-6)
    assert main(micro_flags(None, data[1], logs_dir=tmp_path, name="r", resume=weights, ema_decay=0.9)) == 0
    assert metrics_of(tmp_path / "r")["clip_val_loss"] == pytest.approx(metrics_of(average)["clip_val_loss"], rel=1e-6)
    assert main(micro_flags(None, data[1], logs_dir=tmp_path, name="p", pretrained=weights)) == 0
    assert metrics_of(tmp_path / "p")["clip_val_loss"] == pytest.approx(metrics_of(plain)["clip_val_loss"], rel=1e-6)


def test_a_file_without_an_average_is_refused_by_pretrained_ema(data, tmp_path, capfd):
    assert main(micro_flags(*data, logs_dir=tmp_path, name="plain", epochs=1)) == 0
    weights = tmp_path / "plain" / "checkpoints" / "epoch_1.pt"
    flags = micro_flags(None, data[1], logs_dir=tmp_path, name="e", pretrained=weights, pretrained_ema=True)
    assert main(flags) == 4
    assert "no averaged weights" in capfd.readouterr().err


def test_a_run_stopped_inside_an_epoch_ends_with_the_average_and_the_rates_of_the_whole_one(data, tmp_path):
    flags = {"ema_decay": 0.9, "image_layer_decay": 0.7, "text_layer_decay": 0.8, "epochs": 6, "save_frequency": 0}
    assert main(micro_flags(*data, logs_dir=tmp_path, name="whole", **flags)) == 0
    words = micro_flags(*data, logs_dir=tmp_path, name="cut", **flags)
    process = start_trainer(words)
    wait_for_step(tmp_path / "cut", 2, process)
    kill_group(process, signal.SIGTERM)
    assert process.returncode == 75
    assert main([*words, "--resume", "latest"]) == 0
    ours, theirs = (load_payload(tmp_path / name / "checkpoints" / "epoch_6.pt") for name in ("cut", "whole"))
    for key in ("state_dict", "state_dict_ema", "ema_updates", "optimizer"):
        assert_same_state(ours[key], theirs[key])
    assert theirs["ema_updates"] == 30
    scales = {group["lr_scale"] for group in theirs["optimizer"]["param_groups"]}
    assert min(scales) == pytest.approx(0.7**3)
    assert max(scales) == 1.0
    assert metrics_of(tmp_path / "cut") == metrics_of(tmp_path / "whole")


def test_an_average_begins_at_a_checkpoint_that_has_none(data, tmp_path, capfd):
    assert main(micro_flags(*data, logs_dir=tmp_path, name="plain", epochs=1)) == 0
    start = tmp_path / "plain" / "checkpoints" / "epoch_1.pt"
    assert main(micro_flags(*data, logs_dir=tmp_path, name="on", resume=start, ema_decay=0.9)) == 0
    assert "holds no averaged weights" in capfd.readouterr().err
    assert load_payload(tmp_path / "on" / "checkpoints" / "epoch_2.pt")["ema_updates"] == 5
