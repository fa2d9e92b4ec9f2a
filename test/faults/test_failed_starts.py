"""A start that fails: cheap checks come first, the status says what kind it is, and nothing is left in its way."""

import csv
import os
import sys

import pytest
import torch

from pairs import make_pairs, micro_flags
from training.main import main


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return make_pairs(folder, 20, 2, name="train.csv"), make_pairs(folder, 6, 2, seed=1, name="val.csv")


def torn_images(folder, table):
    """Copy a table whose images are all broken."""
    rows = list(csv.reader(table.open()))
    for number, row in enumerate(rows[1:]):
        row[0] = str(folder / f"torn-{number}.jpg")
        (folder / f"torn-{number}.jpg").write_bytes(b"\xff\xd8 torn")
    path = folder / "torn.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


MISTAKES = {
    "a model that is not there": ({"model": "ViT-B-23"}, 2, "ViT-B-32"),
    "a folder of a model that is not there": ({"model": "local-dir:absent"}, 4, "there is no such folder"),
    "an image without a patch": ({"force_image_size": 7}, 2, "at least 8 x 8"),
    "an augmentation of no kind": ({"aug_cfg": "scale=5"}, 2, "two shares of the area"),
    "one pair a step": ({"batch_size": 1}, 2, "always 0"),
    "no training table": ({"train": "absent.csv"}, 3, "(--train-data)"),
    "a path that no system takes": ({"train": "x" * 5_000}, 3, "File name too long"),
    "a folder as a table": ({"train": ".", "dataset_type": "csv"}, 3, "Is a directory"),
    "a table as a folder": ({"dataset_type": "folder"}, 3, "is no folder"),
    "a column that is not there": ({"csv_caption_key": "words"}, 3, "no column 'words'"),
    "no validation table": ({"val": "absent.csv"}, 3, "(--val-data)"),
    "shards that are not there": ({"train": "absent-{00..02}.tar"}, 3, "3 of 3 shards"),
    "no zero-shot folder": ({"imagenet_val": "absent"}, 3, "--imagenet-val absent is no folder"),
    "a table for a buffer": ({"shard_order": "buffer"}, 2, "needs tar shards"),
    "shares that are no numbers": ({"train": "a.tar", "json_text_key_probs": "a;b"}, 2, "--json-text-key-probs"),
    "weights that are not there": ({"pretrained": "absent.pt"}, 4, "no such weights file"),
    "a tag that is not there": ({"pretrained": "laion9b"}, 2, "no weights called"),
    "weights that are a folder": ({"pretrained": "."}, 4, "is a folder"),
    "a teacher without weights": ({"distill_model": "RN50", "distill_pretrained": "absent.pt"}, 4, "no such weights"),
    "a checkpoint that is not there": ({"resume": "absent.pt"}, 4, "--resume absent.pt"),
    "weights that are none": ({"pretrained": "junk.pt"}, 4, "junk.pt"),
    "towers that are frozen": (
        {"lock_image": True, "lock_text": True, "lock_text_freeze_layer_norm": True},
        2,
        "both towers are frozen",
    ),
    "too large a batch": ({"batch_size": 4_000}, 3, "fewer than one global batch"),
    "validation images that are broken": ({"val": "{torn}"}, 3, "None of the first"),
}


@pytest.mark.parametrize("flags,status,message", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_failed_start_says_why_and_leaves_no_run_folder(data, tmp_path, monkeypatch, capfd, flags, status, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "junk.pt").write_bytes(b"no weights")
    (tmp_path / "a.tar").write_bytes(b"\0" * 10_240)
    places = {}
    if flags.get("val") == "{torn}":
        places["{torn}"] = torn_images(tmp_path, data[1])
    given = {"train": data[0], "val": data[1], "logs_dir": tmp_path / "logs", "name": "run"} | flags
    given = {key: places.get(value, value) for key, value in given.items()}
    train, val = given.pop("train"), given.pop("val")
    assert main(micro_flags(train, val, **given)) == status
    log = "".join(capfd.readouterr())
    assert message in log
    assert "Traceback" not in log
    left = list((tmp_path / "logs").rglob("*")) if (tmp_path / "logs").exists() else []
    assert [path.name for path in left if path.is_file() and path.name != "bad_samples.jsonl"] == []
    assert not (tmp_path / "logs" / "run").exists() or any((tmp_path / "logs" / "run").iterdir())


def test_a_report_without_its_package_is_refused_before_anything_else(data, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    flags = micro_flags("absent.csv", data[1], logs_dir=tmp_path / "logs", report_to="tensorboard")
    assert main(flags) == 2
    assert "needs the tensorboard package" in "".join(capfd.readouterr())
    assert not (tmp_path / "logs").exists()


def test_the_same_command_runs_when_the_mistake_is_mended(data, tmp_path):
    flags = micro_flags(tmp_path / "later.csv", data[1], logs_dir=tmp_path / "logs", name="run", epochs=1)
    assert main(flags) == 3
    (tmp_path / "later.csv").write_text("img_key,caption_key\nabsent.jpg,a word\n")
    assert main(flags) == 3
    (tmp_path / "later.csv").write_bytes(data[0].read_bytes())
    assert main(flags) == 0
    assert (tmp_path / "logs" / "run" / "config.yaml").is_file()


def test_a_failed_start_leaves_the_files_of_an_earlier_run_alone(data, tmp_path):
    flags = micro_flags(*data, logs_dir=tmp_path, name="run", epochs=1)
    assert main(flags) == 0
    kept = {
        path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file() and path.suffix != ".log"
    }
    assert main([*flags, "--resume", "latest", "--batch-size", "4000"]) == 3
    assert main(flags) == 2
    assert kept == {path: path.read_bytes() for path in kept}


def test_data_is_looked_at_before_weights_and_both_before_a_model_is_built(data, tmp_path, monkeypatch, capfd):
    (tmp_path / "junk.pt").write_bytes(b"no weights")
    built = []
    monkeypatch.setattr(torch.nn.Module, "__init__", lambda self, *args, **kwargs: built.append(self))
    flags = {"logs_dir": tmp_path / "logs", "pretrained": "absent.pt"}
    assert main(micro_flags(tmp_path / "absent.csv", data[1], **flags)) == 3
    (tmp_path / "empty").mkdir()
    assert main(micro_flags(tmp_path / "empty", data[1], dataset_type="auto", **flags)) == 3
    assert main(micro_flags(*data, **flags)) == 4
    assert "absent.pt" in "".join(capfd.readouterr())
    assert built == []
    assert not os.path.exists(tmp_path / "logs")
