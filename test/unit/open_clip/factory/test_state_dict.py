import pytest
import torch

from open_clip.errors import CheckpointError
from open_clip.factory import load_state_dict


def test_weights_are_read_without_a_model(tmp_path):
    torch.save({"state_dict": {"module.w": torch.ones(2)}}, tmp_path / "a.pt")
    read = load_state_dict(tmp_path / "a.pt", device="cpu", weights_only=False)
    assert torch.equal(read["w"], torch.ones(2))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nothing.pt"):
        load_state_dict(tmp_path / "nothing.pt")
