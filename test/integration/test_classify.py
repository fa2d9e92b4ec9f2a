"""Image classification from a folder of classes: trained, probed, evaluated, exported, and told what is wrong."""

import json

import pytest
import torch
from PIL import Image

import open_clip
from pairs import micro_flags
from runs import load_payload, read_lines, run_trainer, train_losses
from training.export import main as export_main
from training.main import main

COLORS = {"blue": (20, 40, 200), "green": (20, 200, 60), "red": (220, 30, 30)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Images of one colour with some noise, a folder a colour, for training and for validation."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for split, count in (("train", 16), ("val", 6)):
        made[split] = tmp_path_factory.mktemp(split)
        for name, color in COLORS.items():
            (made[split] / name).mkdir()
            for number in range(count):
                noise = torch.randint(-20, 21, (32, 32, 3), generator=generator)
                pixels = (torch.tensor(color) + noise).clamp(0, 255).to(torch.uint8)
                Image.fromarray(pixels.numpy()).save(made[split] / name / f"{number}.png")
    return made


def flags(folders, logs, name, **more):
    chosen = {"task": "classify", "epochs": 4, "batch_size": 12, "lr": 3e-3, "logs_dir": logs, "name": name, **more}
    return micro_flags(folders["train"], folders["val"], **chosen)


@pytest.fixture(scope="module")
def run(folders, tmp_path_factory):
    logs = tmp_path_factory.mktemp("logs")
    assert main(flags(folders, logs, "run", label_smoothing=0.1, image_layer_decay=0.8)) == 0
    return logs / "run"


def last(run):
    return load_payload(run / "checkpoints" / "epoch_4.pt")


def test_it_learns_and_reports_accuracy_confusions_and_mistakes(run):
    metrics = [line["metrics"] for line in read_lines(run / "metrics.jsonl") if line["kind"] == "eval"]
    assert metrics[-1]["val-top1"] > 0.9
    page = (run / "report.html").read_text()
    for word in ("Confusion", "val-top1", *COLORS):
        assert word in page
    assert set(last(run)["state_dict"]) >= {"head.weight", "head.bias", "visual.conv1.weight"}


def test_a_locked_tower_is_a_linear_probe(folders, tmp_path):
    assert main(flags(folders, tmp_path, "probe", lock_image=True)) == 0
    torch.manual_seed(0)
    losses = list(train_losses(tmp_path / "probe").values())
    assert losses[-1] < losses[0]
    first, second = (load_payload(tmp_path / "probe" / "checkpoints" / f"epoch_{epoch}.pt") for epoch in (1, 4))
    moved = [name for name, value in first["state_dict"].items() if not torch.equal(value, second["state_dict"][name])]
    assert moved == ["head.weight", "head.bias"]


def test_two_processes_in_accumulated_steps_train_as_one(folders, run, tmp_path):
    words = flags(folders, tmp_path, "two", label_smoothing=0.1, image_layer_decay=0.8, batch_size=3, accum_freq=2)
    status, output = run_trainer(words, 2)
    assert status == 0, output
    assert train_losses(tmp_path / "two") == pytest.approx(train_losses(run), rel=1e-4)


def test_tower_and_head_are_exported_and_told_classes_by_the_library(folders, run, tmp_path):
    assert export_main([str(run / "checkpoints" / "epoch_4.pt"), "--model-folder", str(tmp_path / "model")]) == 0
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")
    image = Image.open(folders["val"] / "green" / "0.png")
    best = model.eval()(transform(image)[None]).argmax().item()
    assert model.classes[best] == "green"
    # The trainer goes on with it, and measures it.
    again = flags(folders, tmp_path, "eval", model=f"local-dir:{tmp_path / 'model'}")
    words = [word for word in again if word != str(folders["train"]) and word != "--train-data"]
    assert main(words) == 0
    found = json.loads((tmp_path / "eval" / "checkpoints" / "results.jsonl").read_text().splitlines()[-1])
    expected = [line["metrics"] for line in read_lines(run / "metrics.jsonl") if line["kind"] == "eval"][-1]
    assert found["val-top1"] == expected["val-top1"]


def test_what_cannot_be_is_told(folders, tmp_path, capfd):
    one = tmp_path / "one"
    (one / "blue").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(one / "blue" / "0.png")
    assert main(flags({**folders, "val": one}, tmp_path, "none")) == 2
    assert "both need the same" in capfd.readouterr().err
    assert export_main([str(tmp_path / "gone.pt"), "--model-folder", str(tmp_path / "out")]) == 4
    assert not (tmp_path / "out").exists()
