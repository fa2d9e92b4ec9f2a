"""The trials say so when a device computes something else than the CPU."""

import pytest
import torch
from torch.nn import functional as F

from open_clip.transformer.kernels import register_attention
from training.device.cpu import CpuDevice
from training.doctor.trials import autocast_trial, quick_trials, scaler_trial


def states(device):
    return {finding.what: finding for finding in quick_trials(device)}


@pytest.fixture
def faulty_attention():
    """Have towers attend with a kernel that sees what comes after."""
    register_attention("cpu", lambda q, k, v, **_: F.scaled_dot_product_attention(q, k, v))
    yield
    register_attention("cpu", None)


def test_the_cpu_passes_all():
    assert {finding.state for finding in states(CpuDevice()).values()} == {"ok"}


@pytest.mark.usefixtures("faulty_attention")
def test_a_kernel_that_forgets_the_mask_is_found():
    found = states(CpuDevice())
    assert found["attention, no mask, bfloat16"].state == "ok"
    assert found["attention, causal, bfloat16"].state == "wrong"
    assert "is over" in found["attention, causal, bfloat16"].why


class Turned(torch.autograd.Function):
    """Passes a tensor on, and a tenth too much of its gradient back."""

    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.1


def test_wrong_gradients_are_found():
    register_attention("cpu", lambda q, k, v, **_: F.scaled_dot_product_attention(q, k, Turned.apply(v)))
    try:
        assert states(CpuDevice())["attention, no mask, bfloat16"].state == "wrong"
    finally:
        register_attention("cpu", None)


def test_a_kernel_that_fails_is_one_line_and_the_others_are_tried():
    def fail(*_, **__):
        raise RuntimeError("EZ9999: Inner Error!\n  more of it")

    register_attention("cpu", fail)
    try:
        found = states(CpuDevice())
    finally:
        register_attention("cpu", None)
    assert found["attention, causal, bfloat16"].state == "failed"
    assert found["attention, causal, bfloat16"].why == "RuntimeError: EZ9999: Inner Error!"
    assert found["loss scale"].state == "ok"


@pytest.mark.parametrize(
    "scaler",
    [
        lambda: torch.amp.GradScaler("cpu", enabled=False),  # takes every step
        lambda: torch.amp.GradScaler("cpu", backoff_factor=0.25),
        lambda: torch.amp.GradScaler("cpu", growth_interval=1),
    ],
)
def test_a_scaler_that_does_something_else_is_found(scaler):
    class Odd(CpuDevice):
        def grad_scaler(self, loss_scale):
            return scaler()

    assert scaler_trial(CpuDevice()).state == "ok"
    assert scaler_trial(Odd()).state == "wrong"


def test_a_scaler_that_tells_what_it_does_is_not_heard(capsys):
    class Loud(torch.amp.GradScaler):
        def update(self, new_scale=None):
            print("Gradient overflow. Skipping step")
            super().update(new_scale)

    class Odd(CpuDevice):
        def grad_scaler(self, loss_scale):
            return Loud("cpu")

    assert scaler_trial(Odd()).state == "ok"
    assert capsys.readouterr().out.count("Gradient overflow") == 1


def test_autocast_that_casts_nothing_is_found():
    with pytest.warns(UserWarning, match="Disabling autocast"):
        found = autocast_trial(CpuDevice(), torch.int8)
    assert found.state == "wrong"
    assert found.why == "its layers gave float32"
