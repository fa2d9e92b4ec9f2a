import pytest
import torch
import torch.nn.functional as F

from open_clip.transformer import MultiHeadAttention
from open_clip.transformer.kernels import _attend_in_rows, _attend_nested, attend_texts, register_attention
from open_clip.transformer.layout import plan_texts

_LENGTHS = [3, 5, 5, 9, 2]


def _layout():
    return plan_texts(torch.tensor(_LENGTHS), shapes="packed", context_length=16)


def _stream(tokens, seed):
    return torch.randn(tokens, 2, 16, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def _one_by_one(q, k, v, layout):
    """Attend text by text, as slowly as it gets."""
    bounds = layout.offsets.tolist()
    parts = []
    for text, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
        is_whole = q.shape[0] == k.shape[0]
        asking = q[start:stop] if is_whole else q[text : text + 1]
        heads = [x.transpose(0, 1)[None] for x in (asking, k[start:stop], v[start:stop])]
        parts.append(F.scaled_dot_product_attention(*heads, is_causal=is_whole)[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def leave_no_kernel():
    yield
    register_attention("cpu", None)


@pytest.mark.parametrize("way, asking", [(_attend_in_rows, 24), (_attend_in_rows, 5), (_attend_nested, 5)])
def test_packed_attention_is_attention_text_by_text(way, asking):
    layout, streams = _layout(), (_stream(asking, 0), _stream(24, 1), _stream(24, 2))
    wanted = _one_by_one(*streams, layout)
    attended = way(*streams, layout, 0.0, None)
    torch.testing.assert_close(attended, wanted, atol=1e-6, rtol=0)
    gradients = torch.autograd.grad(attended.sin().sum(), streams)
    torch.testing.assert_close(gradients, torch.autograd.grad(wanted.sin().sum(), streams), atol=1e-6, rtol=0)


def test_the_scale_reaches_every_text():
    layout, (q, k, v) = _layout(), (_stream(24, seed).transpose(0, 1)[None] for seed in range(3))
    torch.testing.assert_close(attend_texts(q, k, v, layout, scale=0.5), attend_texts(2 * q, k, v, layout))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("asking", [24, 5])
def test_off_the_host_something_always_attends(dtype, asking):
    # The meta device takes the ways of an accelerator and computes shapes only.
    k = torch.empty(1, 2, 24, 16, device="meta", dtype=dtype)
    assert attend_texts(k[:, :, :asking], k, k, _layout().to("meta")).shape == (1, 2, asking, 16)


def test_a_registered_kernel_is_used_for_its_kind_of_device(leave_no_kernel):
    met = []

    def kernel(q, k, v, *, attn_mask, is_causal, dropout_p, scale):
        met.append((attn_mask, is_causal, dropout_p, scale))
        return torch.zeros_like(q)

    register_attention("cpu", kernel)
    attention, x = MultiHeadAttention(32, 2), torch.randn(2, 5, 32)
    out, _ = attention(x, x, x, need_weights=False, is_causal=True)
    assert met == [(None, True, 0.0, None)]
    torch.testing.assert_close(out, attention.out_proj.bias.expand_as(out))
    register_attention("cpu", None)
    attention(x, x, x, need_weights=False, is_causal=True)
    assert len(met) == 1


def test_a_registered_kernel_may_leave_calls_to_torch(leave_no_kernel):
    attention, x = MultiHeadAttention(32, 2), torch.randn(2, 5, 32)
    wanted, _ = attention(x, x, x, need_weights=False)
    register_attention("cpu", lambda *_, **__: None)
    assert torch.equal(attention(x, x, x, need_weights=False)[0], wanted)
