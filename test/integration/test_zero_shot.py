"""Zero-shot evaluation in real runs of the trainer, in one process and in two."""

import json
import random

import pytest
import torch
from PIL import Image

import open_clip
from open_clip.checkpoint import write_safetensors
from pairs import COLOURS, draw_image, make_pairs, micro_flags
from runs import read_lines, run_trainer
from training.main import main

TOP_1 = "imagenet-zeroshot-val-top1"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Squares on a ground of four colours, a class folder for each; one image is a palette's, one is broken."""
    root = tmp_path_factory.mktemp("classes")
    rng = random.Random(0)
    for ground in sorted(COLOURS):
        (root / ground).mkdir()
        for number in range(5):
            draw_image(root / ground / f"{number}.jpg", "red", "square", ground, rng)
    Image.open(root / "red" / "0.jpg").convert("P").save(root / "red" / "palette.png")
    (root / "blue" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (root / "classnames.txt").write_text("\n".join(f"{name} thing" for name in sorted(COLOURS)))
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    write_safetensors(open_clip.create_model("ViT-micro-8-32").state_dict(), path)
    return path


def last_metrics(run):
    return read_lines(run / "checkpoints" / "results.jsonl")[-1]


def flags_of(classes, weights, folder, name):
    return micro_flags(imagenet_val=classes, pretrained=weights, logs_dir=folder, name=name, bad_sample_budget=0.5)


def test_a_run_that_only_classifies_agrees_with_the_library(classes, weights, tmp_path):
    assert main(flags_of(classes, weights, tmp_path, "run")) == 0
    model, preprocess = open_clip.create_model_from_pretrained("ViT-micro-8-32", weights)
    model.eval()
    names = (classes / "classnames.txt").read_text().splitlines()
    tokenizer = open_clip.get_tokenizer("ViT-micro-8-32")
    classifier = open_clip.build_zero_shot_classifier(model, tokenizer, names, open_clip.OPENAI_IMAGENET_TEMPLATES)
    hits = []
    for number, colour in enumerate(sorted(COLOURS)):
        for path in sorted((classes / colour).iterdir()):
            if path.name != "broken.jpg":
                image = preprocess(Image.open(path).convert("RGB"))[None]
                with torch.no_grad():
                    hits.append(int((model.encode_image(image, normalize=True) @ classifier).argmax()) == number)
    assert len(hits) == 21
    found = last_metrics(tmp_path / "run")
    assert found[TOP_1] == pytest.approx(sum(hits) / len(hits))
    # Of four classes all are among the five best.
    assert "imagenet-zeroshot-val-top5" not in found
    assert f"imagenet-zeroshot-val: top-1 {100 * found[TOP_1]:.1f} %\n" in (tmp_path / "run" / "out.log").read_text()
    assert "broken.jpg" in (tmp_path / "run" / "bad_samples.jsonl").read_text()
    assert "imagenet-zeroshot-val-top1" in (tmp_path / "run" / "report.html").read_text()


def test_two_processes_find_the_same(classes, weights, tmp_path):
    assert main(flags_of(classes, weights, tmp_path, "one")) == 0
    status, output = run_trainer(flags_of(classes, weights, tmp_path, "two"), processes=2)
    assert status == 0, output
    one, two = (last_metrics(tmp_path / name) for name in ("one", "two"))
    assert one[TOP_1] == two[TOP_1]


def test_training_classifies_at_its_own_pace(classes, tmp_path):
    data = make_pairs(tmp_path, 12, 1), make_pairs(tmp_path, 8, 1, seed=1, name="val.csv")
    flags = micro_flags(
        *data,
        imagenet_val=classes,
        logs_dir=tmp_path,
        name="run",
        epochs=3,
        zeroshot_frequency=2,
        bad_sample_budget=0.5,
    )
    assert main(flags) == 0
    lines = [line["metrics"] for line in read_lines(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "eval"]
    assert [TOP_1 in line for line in lines] == [False, True, True]
    assert all("image_to_text_R@1" in line for line in lines)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert TOP_1 in summary["metrics"]
