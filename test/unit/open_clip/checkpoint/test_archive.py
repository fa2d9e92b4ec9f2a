import warnings

import pytest
import torch
from torch import nn

from open_clip.checkpoint import read_checkpoint


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
