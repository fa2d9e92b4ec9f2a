import os
import pickle

import pytest
import torch

from open_clip.checkpoint import CONFIG_ENTRY
from open_clip.errors import CheckpointError, ConfigError, NumericsError
from training.checkpoint import Keeper, list_checkpoints, read_newest, read_verified, write_checkpoint
from training.checkpoint.digest import RunningDigest, digest_file
from training.checkpoint.folders import FOLDER, NOTES, read_folder, seal_folder
from training.checkpoint.metadata import read_metadata
from training.checkpoint.sharded import on_master, save_sharded
from training.checkpoint.sharded_read import load_sharded_optimizer, load_sharded_weights, read_whole
from training.distributed import World
from training.export import export, main


def make_model(width=6):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 2))


def train_a_step(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model(torch.ones(3, 4)).square().sum().backward()
    optimizer.step()
    return optimizer


@pytest.fixture
def saved(tmp_path):
    model = make_model()
    optimizer = train_a_step(model)
    path = tmp_path / "epoch_1"
    notes = {"epoch": 1, "name": "run", "global_step": 5, "training_state": {"progress": {"epoch": 1}}}
    notes[CONFIG_ENTRY] = "{}"
    save_sharded(path, model, optimizer, notes, World())
    return path, model, optimizer


def test_a_folder_is_read_back_into_a_model_and_its_optimizer(saved):
    path, model, optimizer = saved
    other = make_model()
    fresh = torch.optim.AdamW(other.parameters(), lr=0.5)
    payload = read_verified(path)
    assert payload["global_step"] == 5
    assert payload[FOLDER] == str(path)
    load_sharded_weights(other, path)
    fresh.load_state_dict(load_sharded_optimizer(dict(other.named_parameters()), fresh, payload["optimizer"], path))
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    expected, found = optimizer.state_dict(), fresh.state_dict()
    assert found["param_groups"] == expected["param_groups"]
    for number, state in expected["state"].items():
        assert all(torch.equal(found["state"][number][key], value) for key, value in state.items())


def test_an_export_is_what_one_file_would_hold(saved):
    path, model, optimizer = saved
    payload = read_verified(export(path))
    assert list(payload) == ["epoch", "name", "state_dict", "optimizer", "global_step", "training_state", CONFIG_ENTRY]
    assert list(payload["state_dict"]) == list(model.state_dict())
    model.load_state_dict(payload["state_dict"])
    optimizer.load_state_dict(payload["optimizer"])


def test_an_export_replaces_nothing_and_wants_a_folder(saved):
    path, _, _ = saved
    assert main([str(path)]) == 0
    with pytest.raises(ConfigError, match="is there already"):
        export(path)
    assert main([str(path.with_suffix(".pt"))]) == 2


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", NOTES, "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_to_any_file_is_found_before_anything_is_read(saved, name, damage):
    path, _, _ = saved
    file = path / name
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(content[:-3])
    else:
        file.unlink()
    with pytest.raises(CheckpointError, match="epoch_1"):
        read_verified(path)
    assert main([str(path)]) == 4


def test_every_single_bit_of_a_manifest_counts(saved):
    path, _, _ = saved
    file = path / "manifest.json"
    good = file.read_bytes()
    notes = read_folder(path)
    for place in range(0, len(good), 7):
        damaged = bytearray(good)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            # Only where the text means the same, as with another kind of space, it may pass.
            assert str(read_folder(path)) == str(notes)
        except CheckpointError:
            continue


def test_a_file_that_the_manifest_does_not_name_is_refused(saved):
    path, _, _ = saved
    (path / "__9_0.distcp").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="__9_0"):
        read_verified(path)


def test_latest_takes_the_newest_good_one_of_files_and_folders(saved):
    path, _, _ = saved
    folder = path.parent
    write_checkpoint({"epoch": 1, "state_dict": {}}, folder / "epoch_1_step_9.pt")
    assert [found.name for found in list_checkpoints(folder)] == ["epoch_1", "epoch_1_step_9.pt"]
    assert read_newest(folder, print)[0].name == "epoch_1_step_9.pt"
    (folder / "epoch_1_step_9.pt").write_bytes(b"")
    messages = []
    assert read_newest(folder, messages.append)[0] == path
    assert "epoch_1_step_9.pt" in messages[0]


def test_leftovers_and_spent_folders_are_removed_by_either_keeper(saved):
    path, _, _ = saved
    folder = path.parent
    (folder / ".tmp-epoch_2-1").mkdir()
    (folder / ".tmp-epoch_2-1" / "__0_0.distcp").touch()
    keeper = Keeper(folder, keep_epochs=2)
    assert not (folder / ".tmp-epoch_2-1").exists()
    for epoch in (2, 3):
        keeper.save_epoch({"epoch": epoch, "global_step": epoch})
    assert [found.name for found in list_checkpoints(folder)] == ["epoch_2.pt", "epoch_3.pt"]


def test_a_model_of_another_shape_is_refused_with_the_weights_that_differ(saved):
    path, _, _ = saved
    with pytest.raises(CheckpointError, match="0.weight"):
        load_sharded_weights(make_model(width=7), path)


def test_an_optimizer_of_other_parameters_is_refused(saved):
    path, model, _ = saved
    partial = torch.optim.AdamW([model[0].weight])
    with pytest.raises(ValueError, match="1.weight"):
        load_sharded_optimizer(dict(model.named_parameters()), partial, read_folder(path)["optimizer"], path)


def test_weights_that_are_not_finite_are_never_written(saved):
    path, model, optimizer = saved
    with torch.no_grad():
        model[1].bias[0] = float("nan")
    with pytest.raises(NumericsError, match="1.bias"):
        save_sharded(path.with_name("epoch_2"), model, optimizer, {"epoch": 2, "name": "run"}, World())
    assert [entry.name for entry in path.parent.iterdir()] == ["epoch_1"]


def test_a_save_that_fails_leaves_nothing_and_harms_nothing(saved, monkeypatch):
    path, model, optimizer = saved

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="could not write .*epoch_1.*No space"):
        save_sharded(path, model, optimizer, {"epoch": 1, "name": "run"}, World())
    monkeypatch.undo()
    assert [entry.name for entry in path.parent.iterdir()] == ["epoch_1"]
    assert read_verified(path)["global_step"] == 5


def test_a_newer_save_of_the_same_name_replaces_the_older(saved):
    path, model, optimizer = saved
    save_sharded(path, model, optimizer, {"epoch": 1, "name": "run", "global_step": 6}, World())
    assert read_verified(path)["global_step"] == 6
    assert [entry.name for entry in path.parent.iterdir()] == ["epoch_1"]


class _Hostile:
    def __reduce__(self):
        return (os.mkdir, ("hostile-was-here",))


@pytest.mark.parametrize("content", [_Hostile(), [1, 2], {"a": torch.nn.Linear}])
def test_an_index_that_holds_objects_is_refused_even_when_the_manifest_fits(saved, content, tmp_path, monkeypatch):
    path, _, _ = saved
    monkeypatch.chdir(tmp_path)
    (path / ".metadata").write_bytes(pickle.dumps(content))
    names = [entry.name for entry in path.iterdir() if entry.name != "manifest.json"]
    seal_folder(path, {name: digest_file(path / name) for name in names})
    notes = read_folder(path)
    with pytest.raises(CheckpointError, match="metadata"):
        read_whole(path, notes)
    assert not (tmp_path / "hostile-was-here").exists()


def test_an_index_that_points_outside_its_folder_is_refused(saved):
    path, _, _ = saved
    metadata = read_metadata(path)
    key = next(iter(metadata.storage_data))
    metadata.storage_data[key].relative_path = "../epoch_0/__0_0.distcp"
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(CheckpointError, match="outside"):
        read_metadata(path)


def test_every_process_hears_of_the_masters_failure():
    def fail():
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="No space"):
        on_master(World(), fail)


def reseal(path):
    names = [entry.name for entry in path.iterdir() if entry.name != "manifest.json"]
    seal_folder(path, {name: digest_file(path / name) for name in names})


def first_of(metadata, prefix="optimizer."):
    return next(entry for key, entry in metadata.state_dict_metadata.items() if key.startswith(prefix))


INDEXES = {
    "a size without end": lambda index: setattr(first_of(index), "size", torch.Size([1 << 40])),
    "a size that is text": lambda index: setattr(first_of(index), "size", "abc"),
    "a size below 0": lambda index: setattr(first_of(index), "size", (-1, 4)),
    "no size": lambda index: delattr(first_of(index), "size"),
    "no type": lambda index: setattr(first_of(index).properties, "dtype", "float32"),
    "no properties": lambda index: setattr(first_of(index), "properties", None),
    "no parts": lambda index: setattr(first_of(index), "chunks", []),
    "parts that are numbers": lambda index: setattr(first_of(index), "chunks", [1, 2]),
    "parts of another size": lambda index: setattr(first_of(index).chunks[0], "sizes", torch.Size([1])),
    "a place past the end": lambda index: setattr(next(iter(index.storage_data.values())), "offset", 1 << 40),
    "a place below 0": lambda index: setattr(next(iter(index.storage_data.values())), "offset", -5),
    "a place that is text": lambda index: setattr(next(iter(index.storage_data.values())), "length", "x"),
    "places that are numbers": lambda index: index.storage_data.update(dict.fromkeys(index.storage_data, 5)),
    "entries that are numbers": lambda index: setattr(index, "state_dict_metadata", {"model.0.weight": 5}),
    "names that are numbers": lambda index: index.state_dict_metadata.update({5: first_of(index)}),
    "no entries": lambda index: setattr(index, "state_dict_metadata", None),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_an_index_that_claims_what_is_not_there_is_refused(saved, kind):
    path, model, optimizer = saved
    metadata = read_metadata(path)
    INDEXES[kind](metadata)
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    reseal(path)
    notes = read_folder(path)
    with pytest.raises(CheckpointError, match="epoch_1"):
        read_whole(path, notes)
    with pytest.raises(CheckpointError):
        load_sharded_optimizer(dict(model.named_parameters()), optimizer, notes["optimizer"], path)


@pytest.mark.parametrize(
    "change",
    [
        lambda notes: notes.pop("optimizer"),
        lambda notes: notes.update(optimizer=5),
        lambda notes: notes["optimizer"].update(param_groups=5),
        lambda notes: notes["optimizer"].update(param_groups=[{"lr": 1}]),
        lambda notes: notes["optimizer"].update(state=[]),
        lambda notes: notes["optimizer"].update(kinds={"0.weight": [5]}),
        lambda notes: notes["optimizer"]["kinds"].update({"0.weight": ["\x1b[31mabsent"]}),
        lambda notes: notes.update(order_of_weights=["\x1b[31mabsent"]),
        lambda notes: notes.update(order_of_weights=5),
        lambda notes: notes.update(epoch="one"),
    ],
)
def test_notes_of_another_form_are_refused(saved, change):
    path, _, _ = saved
    notes = torch.load(path / NOTES, weights_only=True)
    change(notes)
    write_checkpoint(notes, path / NOTES)
    reseal(path)
    with pytest.raises(CheckpointError, match="epoch_1") as caught:
        read_whole(path, read_folder(path))
    assert "\x1b" not in str(caught.value)


def test_a_state_of_another_shape_is_refused_with_both_shapes(saved):
    path, _, _ = saved
    other = make_model(width=7)
    fresh = torch.optim.AdamW(other.parameters())
    with pytest.raises(
        CheckpointError, match=r"0\.weight: exp_avg is \(6, 4\) .* in the file and \(7, 4\) in the model"
    ):
        load_sharded_optimizer(dict(other.named_parameters()), fresh, read_folder(path)["optimizer"], path)


@pytest.mark.parametrize("name", [NOTES, ".metadata", "__0_0.distcp"])
def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(saved, name):
    path, _, _ = saved
    (path / name).unlink()
    os.mkfifo(path / name)
    digests = {other: digest_file(path / other) for other in os.listdir(path) if other not in (name, "manifest.json")}
    seal_folder(path, {**digests, name: RunningDigest().finish()})
    with pytest.raises(CheckpointError, match="not a plain file"):
        read_verified(path)
