import errno
import gzip
import io
import pickle
import tempfile
import tracemalloc

import pytest
import torch

from open_clip.checkpoint import list_entries, read_checkpoint, read_entries, read_state_dict, write_safetensors
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


@pytest.mark.parametrize("layout", ["zip", "older", "bare"])
def test_files_that_gzip_packed_are_read(tmp_path, layout):
    path = tmp_path / "weights.pth.gz"
    with gzip.open(path, "wb") as file:
        if layout == "bare":
            pickle.dump(WEIGHTS, file)
        else:
            torch.save(WEIGHTS, file, _use_new_zipfile_serialization=layout == "zip")
    _assert_weights(read_state_dict(path))


def test_a_gzip_bomb_is_refused_before_it_fills_memory_or_disk(tmp_path):
    path = tmp_path / "bomb.pth.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(80):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"bomb\.pth\.gz: would unpack to far more than weights do"):
        read_checkpoint(path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_a_gzip_file_cut_short_or_of_something_else_is_refused_by_name(tmp_path):
    path = tmp_path / "weights.pth.gz"
    whole = gzip.compress(pickle.dumps(WEIGHTS))
    path.write_bytes(whole[:-9])
    with pytest.raises(CheckpointError, match=r"weights\.pth\.gz: the file is cut short or damaged"):
        read_checkpoint(path)
    path.write_bytes(gzip.compress(b"i n\nt h\n"))
    with pytest.raises(CheckpointError, match=r"weights\.pth\.gz: is a gzip file with no weights"):
        read_checkpoint(path)


def test_weights_that_cannot_be_unpacked_for_want_of_room_are_not_called_damaged(tmp_path, monkeypatch):
    class FullDisk(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "weights.pth.gz"
    path.write_bytes(gzip.compress(pickle.dumps(WEIGHTS)))
    monkeypatch.setattr(tempfile, "TemporaryFile", FullDisk)
    with pytest.raises(CheckpointError, match="cannot be unpacked .*No space left.*TMPDIR"):
        read_checkpoint(path)


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


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_some_weights_are_given_one_by_one_by_name(tmp_path, kind):
    path = tmp_path / f"weights.{kind}"
    if kind == "pt":
        torch.save({"state_dict": WEIGHTS}, path)
    else:
        write_safetensors(WEIGHTS, path)
    assert sorted(list_entries(path)) == sorted(WEIGHTS)
    _assert_weights(dict(read_entries(path, lambda name: True)))
    (only,) = read_entries(path, lambda name: name == "b")
    assert only[0] == "b"
    assert torch.equal(only[1], WEIGHTS["b"])


def test_a_cut_safetensors_file_gives_no_weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_safetensors(WEIGHTS, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    for read in (list_entries, lambda path: list(read_entries(path, lambda name: True))):
        with pytest.raises(CheckpointError, match=r"weights\.safetensors: is not a whole safetensors file"):
            read(path)
