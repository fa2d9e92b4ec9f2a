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


def test_only_one_fused_kernel_reads_on_the_device_that_it_is_to_skip():
    weights = [torch.nn.Parameter(torch.zeros(2))]
    assert CudaDevice().can_skip_update(torch.optim.AdamW(weights, fused=True))
    assert not CudaDevice().can_skip_update(torch.optim.AdamW(weights, foreach=True))
    assert not CudaDevice().can_skip_update(torch.optim.SGD(weights))
