import pytest
import torch

from open_clip.checkpoint import read_checkpoint, read_state_dict, write_safetensors
from open_clip.errors import CheckpointError

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}


@pytest.fixture
def trainer_file(tmp_path):
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.98)}]}
    wrapped = {f"module.{key}": value for key, value in WEIGHTS.items()}
    path = tmp_path / "epoch_3.pt"
    torch.save({"epoch": 3, "name": "run", "state_dict": wrapped, "optimizer": optimizer}, path)
    return path


def _assert_weights(found):
    assert set(found) == set(WEIGHTS)
    assert all(torch.equal(found[key], value) for key, value in WEIGHTS.items())


def test_a_training_checkpoint_is_read_whole(trainer_file):
    found = read_checkpoint(trainer_file)
    assert (found["epoch"], found["name"]) == (3, "run")
    assert found["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.98)


def test_its_weights_lose_their_wrappers(trainer_file):
    _assert_weights(read_state_dict(trainer_file))


@pytest.mark.parametrize("new_format", [True, False])
def test_plain_torch_files_of_both_formats_are_read(tmp_path, new_format):
    path = tmp_path / "weights.bin"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=new_format)
    _assert_weights(read_state_dict(path))


def test_safetensors_are_known_by_their_content(tmp_path):
    path = tmp_path / "weights.bin"
    write_safetensors(WEIGHTS, path)
    _assert_weights(read_state_dict(path))


def test_a_compiled_models_names_lose_their_prefix(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({f"_orig_mod.module.{key}": value for key, value in WEIGHTS.items()}, path)
    _assert_weights(read_state_dict(path))


@pytest.mark.parametrize(
    "content, said",
    [
        (["a", "list"], "holds a list"),
        ({"state_dict": {}}, "holds no weights"),
        ({"epoch": 3}, r"entry 'epoch' is no tensor but of type int"),
    ],
)
def test_a_file_of_something_else_is_refused_by_name(tmp_path, content, said):
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=said) as caught:
        read_state_dict(path)
    assert str(caught.value).count(str(path)) == 1
