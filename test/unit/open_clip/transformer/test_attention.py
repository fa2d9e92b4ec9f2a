import pytest
import torch
from torch import nn

from open_clip.errors import ConfigError
from open_clip.transformer import Attention, MultiHeadAttention, ResidualAttentionBlock


def _pair(**widths):
    torch.manual_seed(3)
    ours = MultiHeadAttention(16, 4, **widths)
    torch.manual_seed(3)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True, **widths)
    return ours, theirs


def _read(attention, x, **options):
    out, weights = attention(x, x, x, need_weights=False, **options)
    assert weights is None
    return out


@pytest.mark.parametrize("widths", [{}, {"kdim": 12, "vdim": 12}])
def test_names_shapes_and_first_draws_are_those_of_torch(widths):
    ours, theirs = _pair(**widths)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_causal_attention_equals_torchs_with_a_float_mask():
    ours, theirs = _pair()
    x = torch.randn(2, 6, 16)
    mask = torch.full((6, 6), float("-inf")).triu(1)
    expected = theirs(x, x, x, need_weights=False, attn_mask=mask)[0]
    torch.testing.assert_close(_read(ours, x, is_causal=True), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(_read(ours, x, attn_mask=mask), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(_read(ours, x, attn_mask=mask.bool()), expected, atol=1e-6, rtol=0)


def test_a_mask_per_head_and_sample_is_taken_as_torch_takes_it():
    ours, theirs = _pair()
    x = torch.randn(2, 6, 16)
    mask = torch.randn(2 * 4, 6, 6)
    expected = theirs(x, x, x, need_weights=False, attn_mask=mask)[0]
    torch.testing.assert_close(_read(ours, x, attn_mask=mask), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("widths", [{}, {"kdim": 12, "vdim": 12}])
def test_cross_attention_equals_torchs(widths):
    ours, theirs = _pair(**widths)
    query, context = torch.randn(2, 3, 16), torch.randn(2, 7, widths.get("kdim", 16))
    expected = theirs(query, context, context, need_weights=False)[0]
    torch.testing.assert_close(ours(query, context, context, need_weights=False)[0], expected, atol=1e-6, rtol=0)


def test_weights_and_padding_are_answered_as_torch_answers():
    ours, theirs = _pair()
    x, padding = torch.randn(2, 6, 16), torch.zeros(2, 6, dtype=torch.bool)
    padding[1, 4:] = True
    options = {"key_padding_mask": padding, "average_attn_weights": False}
    assert isinstance(ours, nn.MultiheadAttention)
    for mine, other in zip(ours(x, x, x, **options), theirs(x, x, x, **options), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=0)


def test_a_block_takes_torchs_layer_in_place_of_ours_and_tells_it_what_is_causal():
    torch.manual_seed(0)
    block, x = ResidualAttentionBlock(16, 4), torch.randn(2, 6, 16)
    before = block(x, is_causal=True)
    _, theirs = _pair()
    theirs.load_state_dict(block.attn.state_dict())
    block.attn = theirs
    torch.testing.assert_close(block(x, is_causal=True), before, atol=1e-6, rtol=0)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigError, match="width 16 cannot be cut into 3 heads"):
        MultiHeadAttention(16, 3)


def test_cosine_attention_does_not_see_the_length_of_queries_and_keys():
    torch.manual_seed(0)
    attention = Attention(16, 4, scaled_cosine=True, scale_heads=True, inner_norm=True)
    x = torch.randn(2, 5, 16)
    before = attention(x)
    with torch.no_grad():
        attention.in_proj_weight[:32] *= 7.0
    torch.testing.assert_close(attention(x), before, atol=1e-5, rtol=1e-5)


def test_two_ways_to_normalise_queries_are_refused():
    with pytest.raises(ConfigError, match="ask for one of them"):
        Attention(16, 4, qk_norm=True, scaled_cosine=True)


@pytest.mark.parametrize("kind", ["no mask", "bool", "float", "per head"])
def test_one_position_that_asks_gets_what_it_would_get_among_others(kind):
    torch.manual_seed(0)
    attention = MultiHeadAttention(32, 4)
    torch.nn.init.normal_(attention.in_proj_bias)
    x = torch.randn(3, 7, 32, requires_grad=True)
    forbidden = torch.tensor([False, True, False, False, True, False, False])
    mask = {
        "no mask": None,
        "bool": forbidden.expand(3, 1, 1, 7),
        "float": torch.linspace(-1, 1, 7)[None],
        "per head": torch.randn(3 * 4, 1, 7),
    }[kind]
    everyone = mask if mask is None else mask.expand(*mask.shape[:-2], 7, 7)
    wanted = attention(x, x, x, need_weights=False, attn_mask=everyone)[0][:, 2:3]
    parameters = (x, *attention.parameters())
    gradients = torch.autograd.grad(wanted.sin().sum(), parameters)
    asked, _ = attention(x[:, 2:3], x, x, need_weights=False, attn_mask=mask)
    torch.testing.assert_close(asked, wanted, atol=5e-7, rtol=0)
    for gradient, expected in zip(torch.autograd.grad(asked.sin().sum(), parameters), gradients, strict=True):
        torch.testing.assert_close(gradient, expected, atol=5e-6 * expected.abs().max().item(), rtol=0)
