"""Numpy archives are read without pickle; what is no number is refused by name."""

import io
import zipfile

import numpy as np
import pytest
import torch

from open_clip.checkpoint import read_checkpoint, read_state_dict
from open_clip.errors import CheckpointError


def write_members(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def as_member(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_arrays_come_as_tensors_whatever_their_layout(tmp_path):
    arrays = {
        "plain": np.arange(6.0, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "big_endian": np.array([1.5, -2.0], dtype=">f4"),
        "scalar": np.array(3, dtype=np.int32),
        "empty": np.zeros((0, 4), np.float16),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    with (tmp_path / "b.bin").open("wb") as file:
        np.savez_compressed(file, **arrays)
    for path in (tmp_path / "a.npz", tmp_path / "b.bin"):
        found = read_state_dict(path)
        assert list(found) == list(arrays)
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[key].numpy(), array)


def test_bfloat16_is_known_by_its_two_bytes(tmp_path):
    values = torch.tensor([[1.0, -2.5, 3e30]], dtype=torch.bfloat16)
    np.savez(tmp_path / "a.npz", w=values.view(torch.int16).numpy().view("V2"))
    assert torch.equal(read_checkpoint(tmp_path / "a.npz")["w"], values)


class Bomb:
    def __reduce__(self):
        return (open, ("/nonexistent/never", "w"))


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_objects_are_refused_and_never_built(tmp_path, suffix):
    path = tmp_path / f"objects{suffix}"
    objects = np.array([Bomb()], dtype=object)
    np.save(path, objects, allow_pickle=True) if suffix == ".npy" else np.savez(path, w=objects)
    with pytest.raises(CheckpointError, match="refused: it holds Python objects") as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize(
    "content, said",
    [
        (as_member(np.array(["word"])), "'w' holds no numbers but <U4"),
        (as_member(np.zeros(3, [("a", "f4")])), "'w' holds no numbers"),
        (as_member(np.zeros(4))[:-8], "'w' has 24 bytes, which is not what its shape \\(4,\\) takes"),
        (as_member(np.zeros(4)).replace(b"(4,)", b"(9**9,)"), "'w' "),
        (b"nothing", "'w' "),
    ],
)
def test_a_member_that_is_no_array_of_numbers_is_named(tmp_path, content, said):
    write_members(tmp_path / "a.npz", w=content)
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(tmp_path / "a.npz")


def test_a_flipped_bit_and_a_cut_are_found(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, w=np.arange(1000.0))
    whole = path.read_bytes()
    path.write_bytes(whole[:600] + bytes([whole[600] ^ 4]) + whole[601:])
    with pytest.raises(CheckpointError, match="w.npy does not match its checksum"):
        read_checkpoint(path)
    path.write_bytes(whole[:900])
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        read_checkpoint(path)


def test_one_array_without_a_name_is_no_model(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(CheckpointError, match="single array without a name"):
        read_checkpoint(tmp_path / "a.npy")
