"""Whole runs of 20 steps against open_clip_torch 3.3.0's own trainer, recipe by recipe: losses, metrics, weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import open_clip
from open_clip.push_to_hf_hub import save_for_hf
from pairs import CSV_FLAGS, make_pairs, micro_flags
from peer import needs_peer, run_peer
from runs import load_payload, read_lines, run_trainer
from tiny_models import tiny_coca_config, write_config
from training.data.order import epoch_order
from training.main import main

pytestmark = needs_peer
EPOCHS, ROWS, VAL_ROWS = 4, 40, 12
MICRO = "ViT-micro-8-32"
# The whole image, so that neither trainer draws a crop.
STILL = ["--aug-cfg", "scale=(1.0, 1.0)", "ratio=(1.0, 1.0)"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return make_pairs(folder, 20, 2, name="train.csv"), make_pairs(folder, 6, 2, seed=1, name="val.csv")


@pytest.fixture(scope="module")
def coca(tmp_path_factory):
    """A folder with a tiny CoCa: its configuration under a name that both trainers can add, and its first weights.

    Upstream leaves the decoder's last matrix as the memory happened to be, so both start from one file.
    """
    folder = tmp_path_factory.mktemp("coca")
    open_clip.add_model_config(str(write_config(folder, "coca_tiny", tiny_coca_config(text={"vocab_size": 49408}))))
    torch.manual_seed(0)
    save_for_hf(open_clip.create_model("coca_tiny"), None, open_clip.get_model_config("coca_tiny"), folder)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    torch.save(open_clip.create_model(MICRO).state_dict(), path)
    return path


def run_theirs(data, folder, configs, accum_freq=1, **flags):
    micro = Path(open_clip.__file__).parent / "model_configs" / f"{MICRO}.json"
    chosen = {"model": MICRO, "device": "cpu", "precision": "fp32", "batch-size": 8, "workers": 0, "lr": 1e-3}
    chosen |= {"warmup": 2, "logs": folder / "peer", "name": "run", "epochs": EPOCHS, "accum-freq": accum_freq} | flags
    words = [*CSV_FLAGS, "--train-data", str(data[0]), "--val-data", str(data[1]), "--dataset-type", "csv", *STILL]
    for name, value in chosen.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    request = {
        "configs": [str(micro), *map(str, configs)],
        "flags": words,
        "passes": accum_freq,
        "orders": [epoch_order(ROWS, 0, epoch).tolist() for epoch in range(EPOCHS)],
        "checkpoint": str(folder / "peer" / "run" / "checkpoints" / f"epoch_{EPOCHS}.pt"),
    }
    return run_peer("recipe_run", request, folder)


def our_losses(run):
    lines = [line for line in read_lines(run / "metrics.jsonl") if line["kind"] == "train"]
    return {name: np.array([line["losses"][name] for line in lines]) for name in lines[0]["losses"]}


def compare(theirs, run, num_losses):
    ours = our_losses(run)
    names = [name for name in theirs if "/" not in name]
    assert sorted(names) == sorted(ours)
    assert len(names) == num_losses
    for name in names:
        assert len(ours[name]) == 20
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5, err_msg=name)
    weights = load_payload(run / "checkpoints" / f"epoch_{EPOCHS}.pt")["state_dict"]
    for name, value in weights.items():
        if name.endswith("in_proj_bias"):
            # A key's bias moves all scores of a row alike: its gradient is rounding, of which AdamW makes whole steps.
            value.chunk(3)[1].copy_(torch.from_numpy(theirs[f"weight/{name}"]).chunk(3)[1])
        # AdamW turns a rounding difference of a gradient near zero into one of up to a step, lr 1e-3, each time.
        np.testing.assert_allclose(value.numpy(), theirs[f"weight/{name}"], rtol=0, atol=2e-3, err_msg=name)


def compare_metrics(theirs, run, names):
    ours = json.loads((run / "summary.json").read_text())["metrics"]
    for name in names:
        assert ours[name] == pytest.approx(float(theirs[f"metric/{name}"]), rel=1e-4), name


RECIPES = {
    "siglip": ({"siglip": True}, 1),
    "coca": ({"model": "coca_tiny"}, 2),
    "coca weights": (
        {"model": "coca_tiny", "coca-caption-loss-weight": 0.5, "coca-contrastive-loss-weight": 0.0},
        2,
    ),
    "distill": ({"distill-model": MICRO}, 2),
    "clip": ({}, 1),
}


@pytest.fixture(scope="module", params=RECIPES)
def theirs(request, data, coca, teacher, tmp_path_factory):
    flags, num_losses = RECIPES[request.param]
    if "distill-model" in flags:
        flags = {**flags, "distill-pretrained": teacher}
    if "model" in flags:
        flags = {**flags, "pretrained": coca / "open_clip_model.safetensors"}
    answer = run_theirs(data, tmp_path_factory.mktemp("theirs"), [coca / "coca_tiny.json"], **flags)
    return flags, num_losses, answer


@pytest.mark.parametrize("cut", [{}, {"batch_size": 4, "accum_freq": 2}])
def test_twenty_steps_give_the_peers_losses_in_one_process(theirs, data, tmp_path, cut):
    flags, num_losses, answer = theirs
    words = micro_flags(*data, logs_dir=tmp_path, name="run", epochs=EPOCHS, **flags, **cut)
    assert main([*words, *STILL]) == 0
    compare(answer, tmp_path / "run", num_losses)
    names = ["image_to_text_mean_rank", "text_to_image_R@5"]
    compare_metrics(answer, tmp_path / "run", names)
    if not cut:
        compare_metrics(answer, tmp_path / "run", ["clip_val_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("processes,cut", [(2, {"batch_size": 2, "accum_freq": 2}), (4, {"batch_size": 2})])
def test_twenty_steps_on_several_processes_give_the_peers_losses_on_one(theirs, data, coca, tmp_path, processes, cut):
    flags, num_losses, answer = theirs
    if "model" in flags:
        # A folder, as other processes know no configuration that this one added.
        flags = {**flags, "model": f"local-dir:{coca}", "pretrained": None}
    words = micro_flags(*data, logs_dir=tmp_path, name="run", epochs=EPOCHS, **flags, **cut)
    status, output = run_trainer([*words, *STILL], processes)
    assert status == 0, output
    compare(answer, tmp_path / "run", num_losses)
