"""Checkpoints go both ways between this trainer and open_clip_torch 3.3.0's."""

import numpy as np
import pytest
import torch

import open_clip
from pairs import CSV_FLAGS, make_pairs, micro_flags
from peer import needs_peer, run_peer
from runs import load_payload, train_losses
from training.main import main

pytestmark = needs_peer
MODEL = "ViT-micro-8-32"
CAPTIONS = ["a red circle", "two blue bars, one green", "", "a long caption " * 12]


@pytest.fixture
def data(tmp_path):
    return make_pairs(tmp_path, 20, 2, name="train.csv"), make_pairs(tmp_path, 6, 2, seed=1, name="val.csv")


def ask(folder, weights=None, flags=()):
    config = next(p for p in open_clip_configs() if p.stem == MODEL)
    request = {"config": str(config), "model": MODEL, "captions": CAPTIONS}
    return run_peer("trainer_files", {**request, "weights": weights and str(weights), "flags": list(flags)}, folder)


def open_clip_configs():
    from pathlib import Path

    return (Path(open_clip.__file__).parent / "model_configs").glob("*.json")


def features(weights):
    model = open_clip.create_model(MODEL, pretrained=str(weights)).eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        texts = open_clip.get_tokenizer(MODEL)(CAPTIONS)
        return {"image_features": model.encode_image(images).numpy(), "text_features": model.encode_text(texts).numpy()}


def peer_flags(data, logs, **flags):
    words = [*CSV_FLAGS, "--train-data", str(data[0]), "--val-data", str(data[1]), "--dataset-type", "csv"]
    chosen = {"model": MODEL, "device": "cpu", "precision": "fp32", "batch-size": 8, "workers": 0, "lr": 1e-3, **flags}
    chosen = {"warmup": 2, "logs": logs, **chosen}
    return words + [str(word) for key, value in chosen.items() for word in (f"--{key}", value)]


def test_the_peer_computes_our_features_from_our_checkpoint(data, tmp_path):
    assert main(micro_flags(*data, logs_dir=tmp_path / "logs", name="run", epochs=1)) == 0
    path = tmp_path / "logs" / "run" / "checkpoints" / "epoch_1.pt"
    theirs, ours = ask(tmp_path, weights=path), features(path)
    for name in ours:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=1e-5)


def test_the_peers_trainer_goes_on_from_our_checkpoint(data, tmp_path):
    assert main(micro_flags(*data, logs_dir=tmp_path / "logs", name="run", epochs=1)) == 0
    path = tmp_path / "logs" / "run" / "checkpoints" / "epoch_1.pt"
    ask(tmp_path, flags=peer_flags(data, tmp_path / "peer", name="on", epochs=2, resume=path))
    payload = load_payload(tmp_path / "peer" / "on" / "checkpoints" / "epoch_2.pt")
    assert payload["epoch"] == 2
    steps = {int(state["step"]) for state in payload["optimizer"]["state"].values()}
    assert steps == {10}


def test_our_trainer_goes_on_from_the_peers_checkpoint(data, tmp_path):
    ask(tmp_path, flags=peer_flags(data, tmp_path / "peer", name="first", epochs=1))
    path = tmp_path / "peer" / "first" / "checkpoints" / "epoch_1.pt"
    flags = micro_flags(*data, logs_dir=tmp_path / "logs", name="on", epochs=2, resume=path)
    assert main(flags) == 0
    assert sorted(train_losses(tmp_path / "logs" / "on")) == [6, 7, 8, 9, 10]
    theirs, ours = ask(tmp_path, weights=path), features(path)
    for name in ours:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=1e-5)


def test_one_seed_gives_both_trainers_the_same_first_weights(data, tmp_path):
    still = {"epochs": 1, "lr": 0.0, "wd": 0.0}
    ask(tmp_path, flags=peer_flags(data, tmp_path / "peer", name="still", **still))
    assert main(micro_flags(*data, logs_dir=tmp_path / "logs", name="still", **still)) == 0
    theirs = load_payload(tmp_path / "peer" / "still" / "checkpoints" / "epoch_1.pt")["state_dict"]
    ours = load_payload(tmp_path / "logs" / "still" / "checkpoints" / "epoch_1.pt")["state_dict"]
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
