import pytest
import torch

from training.device.cuda import CudaDevice


def test_a_hidden_gpu_is_named_as_the_reason(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    assert "CUDA_VISIBLE_DEVICES is empty" in CudaDevice().missing()


def test_a_torch_without_cuda_is_named_as_the_reason(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    assert "built without CUDA" in CudaDevice().missing()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_a_gpu_says_so(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert CudaDevice().missing()
