"""Going on with other data than a run was trained on: named in the middle of an epoch and between epochs."""

import shutil

import pytest
import torch

from pairs import make_pairs, micro_flags
from shard_sets import write_shards
from training.data import name_changes
from training.main import main

OTHER = "was trained on other data"


def change_caption(path):
    text = path.read_text()
    path.write_text(text.replace("number 5", "number five"))


def change_shard(path):
    """Keep names and counts of the samples; a caption is a block longer."""
    write_shards(path.parent, [20, 20])
    (path.parent / "one").mkdir()
    shard = write_shards(path.parent / "one", [20]) / "00000.tar"
    shutil.copy(shard, path.parent / "00001.tar")
    with (path.parent / "00001.tar").open("ab") as file:
        file.write(bytes(1024))


@pytest.fixture(params=["table", "shards"])
def data(request, tmp_path):
    """Training data, where it lies, and what makes it other data of the same number of rows."""
    folder = tmp_path / "data"
    if request.param == "table":
        return make_pairs(folder, 20, 2), folder, lambda: change_caption(folder / "pairs.csv"), "captions"
    pattern = f"{write_shards(folder, [20, 20])}/{{00000..00001}}.tar"
    return pattern, folder, lambda: change_shard(folder / "00001.tar"), "bytes"


def go_on(tmp_path, train, checkpoint, name):
    return main(micro_flags(train, logs_dir=tmp_path / "logs", name=name, epochs=2, resume=checkpoint))


def test_other_data_of_equal_size_is_named_between_epochs_and_refused_inside_one(tmp_path, data, capfd):
    train, folder, change, what = data
    flags = micro_flags(train, logs_dir=tmp_path / "logs", name="run", epochs=1, save_every_n_steps=3)
    assert main(flags) == 0
    saved = tmp_path / "logs" / "run" / "checkpoints"
    middle, end = saved / "epoch_0_step_3.pt", saved / "epoch_1.pt"
    assert go_on(tmp_path, train, end, "same") == 0
    assert OTHER not in capfd.readouterr().err

    change()
    assert go_on(tmp_path, train, end, "end") == 0
    assert f"{OTHER} than this run has: data: {what} (" in capfd.readouterr().err
    assert go_on(tmp_path, train, middle, "middle") == 2
    assert f"data: {what} (" in capfd.readouterr().err


def test_data_that_was_moved_is_the_same_and_an_older_file_says_nothing(tmp_path, capfd):
    folder = tmp_path / "data"
    pattern = f"{write_shards(folder, [20, 20])}/{{00000..00001}}.tar"
    assert main(micro_flags(pattern, logs_dir=tmp_path / "logs", name="run", epochs=1, save_every_n_steps=3)) == 0
    middle = tmp_path / "logs" / "run" / "checkpoints" / "epoch_0_step_3.pt"
    moved = shutil.copytree(folder, tmp_path / "elsewhere", ignore=shutil.ignore_patterns(".*"))
    pattern = f"{moved}/{{00000..00001}}.tar"
    assert go_on(tmp_path, pattern, middle, "moved") == 0
    payload = torch.load(middle)
    del payload["training_state"]["order"]["data"]
    torch.save(payload, tmp_path / "old.pt")
    change_shard(moved / "00001.tar")
    assert go_on(tmp_path, pattern, tmp_path / "old.pt", "old") == 0
    assert OTHER not in capfd.readouterr().err


def test_only_what_both_descriptions_tell_is_compared():
    assert name_changes("rows 4, names a", "rows 4, names a, bytes b") == []
    assert name_changes("rows 4, names a, bytes b", "rows 5, names a") == ["rows (4 before, now 5)"]
    assert name_changes("", "rows 5") == name_changes("\x1b,, ,", "rows 5") == []
