"""The fused kernel against torch's attention, where torch_npu or its simulator is there."""

import pytest
import torch
import torch.nn.functional as F

from device_under_test import device_under_test
from open_clip.transformer.kernels import attend, register_attention
from training.device.npu_attention import FusedAttention

DEVICE, TORCH_DEVICE = device_under_test()
_PLAIN = {"attn_mask": None, "dropout_p": 0.0, "scale": None}
needs_npu = pytest.mark.skipif(DEVICE.kind != "npu", reason="needs OPENCLIP_TEST_DEVICE=npu")


def _fused_attention():
    import torch_npu

    return FusedAttention(torch_npu.npu_fusion_attention)


def _untraceable(*args, **options):
    """A kernel that no graph takes in, as the card's is."""
    torch._dynamo.graph_break()
    raise RuntimeError("refused")


def _forbidden(*args, **options):
    """A kernel that must not be called; no refusal is made of this error."""
    raise AssertionError("the kernel was called")


def _heads():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 7, 16, generator=generator).to(TORCH_DEVICE).requires_grad_() for _ in range(3)]


@needs_npu
@pytest.mark.parametrize("is_causal", [False, True])
def test_the_fused_kernel_gives_what_torch_gives_with_gradients(is_causal):
    q, k, v = _heads()
    fused = _fused_attention()(q, k, v, is_causal=is_causal, **_PLAIN)
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    torch.testing.assert_close(fused, wanted, atol=1e-6, rtol=0)
    gradients = torch.autograd.grad(fused.sin().sum(), (q, k, v))
    torch.testing.assert_close(gradients, torch.autograd.grad(wanted.sin().sum(), (q, k, v)), atol=1e-5, rtol=0)


@needs_npu
def test_a_refused_call_goes_to_torch_and_no_other_is_tried():
    attention, (q, k, v) = _fused_attention(), _heads()
    assert attention(q[0], k[0], v[0], is_causal=True, **_PLAIN) is None
    assert attention(q, k, v, is_causal=True, **_PLAIN) is None


def test_masks_double_precision_and_dropout_of_everything_are_left_to_torch():
    q, k, v = _heads()
    mask = torch.ones(7, 7, dtype=torch.bool, device=TORCH_DEVICE)
    attention = FusedAttention(_forbidden)
    assert attention(q, k, v, is_causal=False, **(_PLAIN | {"dropout_p": 1.0})) is None
    assert attention(q, k, v, is_causal=False, **(_PLAIN | {"attn_mask": mask})) is None
    assert attention(q.cpu().double(), k, v, is_causal=True, **_PLAIN) is None


@pytest.mark.parametrize("is_causal", [False, True])
def test_a_graph_that_is_compiled_holds_torch_s_attention_in_one_piece(is_causal, request):
    q, k, v = _heads()
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    # As on a card whose kernel can be called, and as on one where it would be refused.
    attention = _fused_attention() if DEVICE.kind == "npu" else FusedAttention(_untraceable)
    request.addfinalizer(lambda: DEVICE.activate())
    request.addfinalizer(lambda: register_attention(DEVICE.kind, None))
    register_attention(DEVICE.kind, attention)

    compiled = torch.compile(lambda q, k, v: attend(q, k, v, is_causal=is_causal), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(q, k, v), wanted, atol=1e-6, rtol=0)
