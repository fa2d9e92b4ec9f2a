import pytest
import torch

import open_clip.checkpoint.write as writing
from open_clip.checkpoint import read_state_dict, write_safetensors
from open_clip.errors import CheckpointError


def test_shared_and_strided_tensors_come_back_as_they_were(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    weights = {"a": base, "b": base, "c": base.T}
    write_safetensors(weights, tmp_path / "new" / "weights.safetensors")
    found = read_state_dict(tmp_path / "new" / "weights.safetensors")
    assert all(torch.equal(found[key], value) for key, value in weights.items())


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    write_safetensors({"a": torch.zeros(2)}, path)

    def fail(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "save_file", fail)
    with pytest.raises(CheckpointError, match="No space left"):
        write_safetensors({"a": torch.ones(2)}, path)
    assert torch.equal(read_state_dict(path)["a"], torch.zeros(2))
    assert list(tmp_path.iterdir()) == [path]
