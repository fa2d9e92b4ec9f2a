"""The examples of CONTRIBUTING.md work as they stand there."""

import csv
import json

import pytest
import torch

import open_clip
from contributing import EXAMPLES
from open_clip import families
from pairs import make_pairs, micro_flags
from runs import load_payload, read_lines
from toy_families import added
from training.main import main


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """The code blocks as files of the names in their first lines."""
    folder = tmp_path_factory.mktemp("contributing")
    for name, code in EXAMPLES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("data"), 8, 2)


def test_the_recipe_trains_reports_and_is_measured(examples, table, tmp_path):
    words = micro_flags(table, table, task=f"{examples}/caption_length.py:CaptionLength", logs_dir=tmp_path, name="run")
    assert main([*words, "--length-weight", "0.2", "--batch-size", "4", "--accum-freq", "2"]) == 0
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    trained = [line for line in lines if line["kind"] == "train"]
    assert {"contrastive_loss", "length_loss"} <= trained[0]["losses"].keys()
    assert "mean_length" in trained[0]["figures"]
    errors = [line["metrics"]["length_error"] for line in lines if line["kind"] == "eval"]
    assert errors[-1] < errors[0]
    assert load_payload(tmp_path / "run" / "checkpoints" / "epoch_2.pt")["task_state_dict"].keys() == {"weight", "bias"}


def test_the_source_gives_the_rows_that_the_table_gives(examples, table, tmp_path):
    with open(table, newline="", encoding="utf-8") as file:
        rows = [{"file": row["img_key"], "says": row["caption_key"]} for row in csv.DictReader(file)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"file": "gone.jpg"}]))
    losses = {}
    for name, data, kind in (
        ("table", table, "csv"),
        ("lines", tmp_path / "rows.jsonl", f"{examples}/json_lines.py:JsonLinesKind"),
    ):
        flags = micro_flags(data, dataset_type=kind, logs_dir=tmp_path, name=name, epochs=1, bad_sample_budget=0.1)
        assert main(flags) == 0
        lines = read_lines(tmp_path / name / "metrics.jsonl")
        losses[name] = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses["lines"] == losses["table"]
    (listed,) = read_lines(tmp_path / "lines" / "bad_samples.jsonl")
    assert (listed["row"], listed["reason"]) == (len(rows) + 1, "no text")


@pytest.fixture
def config(tmp_path):
    """A model of the example's family; what was added to the lists of families and models goes with the test."""
    path = tmp_path / "pooled-64.json"
    path.write_text(json.dumps({"family": "pooled", "width": 64, "patch": 8, "image_size": 32, "words": 1000}))
    with added(path):
        yield path


def test_the_family_is_a_folder_and_a_json(examples, config, tmp_path, monkeypatch):
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(examples)])
    open_clip.add_model_config(config)
    model, transform, _ = open_clip.create_model_and_transforms("pooled-64")
    assert model.encode_image(torch.rand(2, 3, 32, 32), normalize=True).norm(dim=1).tolist() == pytest.approx([1, 1])
    assert transform is not None
    foreign = {name.replace("visual.", "encoder."): value for name, value in model.state_dict().items()}
    torch.save(foreign, tmp_path / "pooled.pt")
    again = open_clip.create_model("pooled-64", str(tmp_path / "pooled.pt"))
    assert torch.equal(again.visual.conv.weight, model.visual.conv.weight)


def test_the_file_of_a_recipe_brings_a_family_that_trains_with_a_part_locked(examples, config, table, tmp_path):
    (examples / "with_pooled.py").write_text(
        "import open_clip\n"
        "from open_clip import families\n"
        "from pooled import FAMILY\n"
        "from training.tasks import ClipTask\n"
        "families.register(FAMILY)\n"
        f"open_clip.add_model_config({str(config)!r})\n"
        "class Mine(ClipTask):\n"
        "    name = 'mine'\n"
    )
    flags = micro_flags(
        table, table, model="pooled-64", task=f"{examples}/with_pooled.py:Mine", logs_dir=tmp_path, name="run"
    )
    assert main([*flags, "--lock-image", "--lock-image-unlocked-groups", "1", "--image-layer-decay", "0.5"]) == 0
    trained = load_payload(tmp_path / "run" / "checkpoints" / "epoch_2.pt")
    # What is locked has no state of an optimizer.
    assert len(trained["optimizer"]["state"]) == len(trained["state_dict"]) - 2 == 4
    errors = [line for line in read_lines(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "eval"]
    assert errors[-1]["metrics"]["clip_val_loss"] < errors[0]["metrics"]["clip_val_loss"]


def test_every_example_is_run():
    assert EXAMPLES.keys() == {"caption_length.py", "json_lines.py", "pooled/__init__.py"}
