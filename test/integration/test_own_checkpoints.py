"""Checkpoints of a run say what they hold: measured without the run's flags they give the run's figures."""

import json
import logging

import pytest
import torch

import open_clip
from pairs import make_pairs, micro_flags
from tiny_models import tiny_config
from training.main import main

FLAGS = {
    "force-quick-gelu": True,
    "force-custom-text": True,
    "siglip": True,
    "force-image-size": 48,
    "force-context-length": 12,
    "image-interpolation": "bilinear",
    "image-resize-mode": "squash",
}
NORMALIZATION = ["--image-mean", "0.1", "0.2", "0.3", "--image-std", "0.5", "0.4", "0.3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    table = make_pairs(folder / "data", num_images=16)
    words = micro_flags(table, table, epochs=1, logs_dir=folder / "logs", name="trained", **FLAGS)
    assert main([*words, *NORMALIZATION]) == 0
    return folder, table


def _figures(folder, name):
    lines = (folder / "logs" / name / "checkpoints" / "results.jsonl").read_text().splitlines()
    return {key: value for key, value in json.loads(lines[-1]).items() if "R@" in key or "rank" in key}


def test_an_evaluation_without_the_flags_of_training_has_its_figures(run):
    folder, table = run
    path = folder / "logs" / "trained" / "checkpoints" / "epoch_1.pt"
    assert main(micro_flags(None, table, pretrained=path, logs_dir=folder / "logs", name="measured")) == 0
    assert _figures(folder, "measured") == _figures(folder, "trained")


def test_the_library_builds_the_trained_model_and_upstreams_entries_are_there(run, caplog):
    path = run[0] / "logs" / "trained" / "checkpoints" / "epoch_1.pt"
    with caplog.at_level(logging.WARNING):
        model, _ = open_clip.create_model_from_pretrained("ViT-micro-8-32", path)
    assert not caplog.records
    assert type(model) is open_clip.CustomTextCLIP
    assert model.logit_bias is not None
    assert (model.visual.image_size, model.context_length) == ((48, 48), 12)
    assert tuple(model.visual.image_mean) == (0.1, 0.2, 0.3)
    payload = torch.load(path, weights_only=True)
    assert list(payload)[:4] == ["epoch", "name", "state_dict", "optimizer"]
    told = json.loads(payload["open_clip_config"])
    assert told["recipe"]["name"] == "siglip"
    assert told["versions"]["open_clip_torch"] == open_clip.__version__


def test_going_on_without_the_flags_is_refused_by_name(run, caplog):
    folder, table = run
    path = folder / "logs" / "trained" / "checkpoints" / "epoch_1.pt"
    words = micro_flags(None, table, resume=path, logs_dir=folder / "logs", name="resumed")
    assert main(words) == 2
    assert "--force-quick-gelu" in caplog.text
    assert "--image-mean" in caplog.text


def test_random_weights_are_not_measured(run, tmp_path, caplog):
    folder, table = run
    assert main(micro_flags(None, table, logs_dir=tmp_path / "logs")) == 2
    assert "has random weights" in caplog.text
    assert not (tmp_path / "logs").exists()
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny_config()}))
    words = micro_flags(None, table, model=f"local-dir:{tmp_path}", logs_dir=tmp_path / "logs")
    assert main(words) == 2
    assert "no trained weights to evaluate" in caplog.text
    assert main(micro_flags(None, table, name="empty", resume="latest", logs_dir=tmp_path / "logs")) == 2
