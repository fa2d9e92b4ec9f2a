import contextlib
import pickle
import resource
import warnings
import zipfile

import pytest
import torch
from torch import nn

from open_clip.checkpoint import read_checkpoint
from open_clip.errors import CheckpointError


class _Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Parameter(torch.randn(3, 2))
        self.layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.register_buffer("input_resolution", torch.tensor(224))

    def forward(self, x):
        return self.layers(x) @ self.proj


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_script_archive_gives_its_tensors_without_being_run(tmp_path, dtype):
    path = tmp_path / "archive.pt"
    tower = _Tower().to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(tower), path)
    found = read_checkpoint(path)
    expected = tower.state_dict()
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value)


def _write_archive(path, tree):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tree)
        archive.writestr("archive/constants.pkl", pickle.dumps(()))
    return path


def _module(state):
    return b"c__torch__\nModule\n)\x81" + state + b"b"


def _modules_in_each_other(depth):
    tree = b"\x80\x02" + _module(b"}") + b"q\x000"
    for place in range(depth):
        before = b"h" + bytes([place])
        both = b"}(U\x01a" + before + b"U\x01b" + before + b"u"
        tree += _module(both) + b"q" + bytes([place + 1]) + b"0"
    return tree + b"h" + bytes([depth]) + b"."


def test_modules_that_hold_each_other_twice_are_refused(tmp_path):
    path = _write_archive(tmp_path / "archive.pt", _modules_in_each_other(50))
    with pytest.raises(CheckpointError, match="hold each other again and again"):
        read_checkpoint(path)
    assert read_checkpoint(_write_archive(path, _modules_in_each_other(10))) == {}


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(b"\x80\x02]r\xff\xff\xff\x0f0h\x00.", id="place in the memo"),
        pytest.param(b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b".", id="length of bytes"),
        pytest.param(b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b".", id="length of a number"),
    ],
)
def test_no_number_in_an_archive_is_taken_for_a_need_of_memory(tmp_path, tree):
    path = _write_archive(tmp_path / "archive.pt", tree)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(CheckpointError):
        read_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10
