"""Broken and hostile weight files: each is refused by name, and nothing in them is run."""

import contextlib
import io
import os
import pickle
import random
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

import open_clip
from open_clip.checkpoint import read_checkpoint, read_state_dict, write_safetensors
from open_clip.checkpoint.arrays import read_array_archive
from open_clip.errors import CheckpointError

pytestmark = pytest.mark.faults

WEIGHTS = {"a": torch.arange(512.0), "b": torch.ones(3)}


class _Attack:
    """Runs a shell command when it is unpickled."""

    def __init__(self, mark):
        self.command = f"touch {mark}"

    def __reduce__(self):
        return os.system, (self.command,)


def _refused(path):
    """Read a file that must be refused and return what is said, checked for the rules all messages follow."""
    with pytest.raises(CheckpointError) as caught:
        read_state_dict(path)
    said = str(caught.value)
    assert str(path) in said
    assert len(said.splitlines()) <= 6
    chain, error = [], caught.value
    while error is not None:
        chain.append(str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert not any("weights_only" in text or "add_safe_globals" in text for text in chain)
    return said


@pytest.fixture
def torch_file(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(WEIGHTS, path)
    return path


@pytest.fixture
def script_file(tmp_path):
    path = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(8, 8)), path)
    return path


def _rewrite(source, target, change):
    """Copy a zip with some members changed, checksums made right again."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            new.writestr(member, change(member, old.read(member)))


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path, new_format):
    mark, path = tmp_path / "ran", tmp_path / "attack.pt"
    torch.save({"state_dict": WEIGHTS, "x": _Attack(mark)}, path, _use_new_zipfile_serialization=new_format)
    assert "refused" in _refused(path)
    assert not mark.exists()


def test_a_bare_pickle_is_refused_and_runs_nothing(tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "attack.bin"
    path.write_bytes(pickle.dumps({"a": _Attack(mark)}))
    _refused(path)
    assert not mark.exists()


def test_a_script_archive_that_runs_code_is_refused_and_runs_nothing(tmp_path, script_file):
    mark, path = tmp_path / "ran", tmp_path / "attack.pt"
    attack = pickle.dumps({"a": _Attack(mark)}, protocol=2)
    _rewrite(script_file, path, lambda name, content: attack if name.endswith("data.pkl") else content)
    assert "system" in _refused(path)
    assert not mark.exists()


def test_a_pickled_module_is_refused_by_its_class(tmp_path):
    path = tmp_path / "module.pt"
    torch.save(nn.Linear(2, 2), path)
    assert "torch.nn.modules.linear.Linear" in _refused(path)


@pytest.mark.parametrize("script", [False, True])
def test_a_flipped_bit_in_a_tensor_is_found(torch_file, script_file, script):
    path = script_file if script else torch_file
    with zipfile.ZipFile(path) as archive:
        member = max((m for m in archive.infolist() if "/data/" in m.filename), key=lambda m: m.file_size)
        content = archive.read(member)
    data = bytearray(path.read_bytes())
    data[data.index(content) + 5] ^= 0x10
    path.write_bytes(data)
    assert "damaged" in _refused(path) or "checksum" in _refused(path)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
@pytest.mark.parametrize("kind", ["zip", "pickle", "script", "safetensors"])
def test_a_file_cut_short_is_refused(tmp_path, torch_file, script_file, kind, share):
    path = {"zip": torch_file, "script": script_file}.get(kind, tmp_path / "weights.safetensors")
    if kind == "pickle":
        torch.save(WEIGHTS, path := tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    if kind == "safetensors":
        write_safetensors(WEIGHTS, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    _refused(path)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x00" * 100, "no torch, safetensors or .npz file"),
        (b"PK\x03\x04" + b"\x00" * 100, "cut short or damaged"),
        (b'{"error": "not found"}', "is text, not weights; it begins with"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
def test_a_file_that_is_something_else_is_named_whatever_it_is_called(tmp_path, content, said, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    said = "its beginning is damaged" if (suffix, content[:1]) == (".safetensors", b"\x00") else said
    assert said in _refused(path)
    with pytest.raises(CheckpointError) as caught:
        open_clip.create_model("ViT-tiny-16-64", pretrained=path)
    assert said in str(caught.value)


def test_a_zip_file_of_other_things_is_no_weights_file(tmp_path):
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "zip file with no weights" in _refused(path)


def test_missing_files_and_folders_are_named(tmp_path):
    assert "no such file" in _refused(tmp_path / "none.pt")
    assert "is a folder" in _refused(tmp_path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/data/0", bytes(80 << 20))
    assert "would expand" in _refused(path)


def test_a_script_tensor_larger_than_its_storage_is_refused(tmp_path, script_file):
    # The weight's size (8, 8) becomes (255, 255) while its strides become 0: 64 numbers seen 65025 times.
    def enlarge(name, content):
        if not name.endswith("data.pkl"):
            return content
        assert b"(K\x08K\x08t(K\x08K\x01t" in content
        return content.replace(b"(K\x08K\x08t(K\x08K\x01t", b"(K\xffK\xfft(K\x00K\x00t")

    path = tmp_path / "large.pt"
    _rewrite(script_file, path, enlarge)
    assert "larger than its storage" in _refused(path)


def test_no_random_damage_passes_as_another_error(torch_file, script_file, tmp_path):
    chance = random.Random(0)
    for source in (torch_file, script_file):
        sound = source.read_bytes()
        for _ in range(60):
            data = bytearray(sound)
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            path = tmp_path / "damaged.pt"
            path.write_bytes(data)
            # Whatever comes, nothing but our own error may leave the reader.
            with contextlib.suppress(CheckpointError):
                read_checkpoint(path)


def test_an_array_that_claims_less_than_it_holds_unpacks_no_more_than_it_claims():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(10, np.float32))
    array, held = buffer.getvalue(), 100_000_000
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", array + bytes(held))
    content = packed.getvalue().replace(struct.pack("<L", len(array) + held), struct.pack("<L", len(array)))
    tracemalloc.start()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, pytest.raises(zipfile.BadZipFile):
        read_array_archive(archive)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < held / 10
