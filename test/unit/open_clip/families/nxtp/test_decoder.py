"""The decoder as an operator: what it may see, what it remembers, and what it draws. Parity is another file's job."""

import pytest
import torch

from open_clip.errors import ConfigError
from open_clip.families.nxtp.attention_maps import attention_maps
from open_clip.families.nxtp.decoder import Decoder, DecoderCfg


def tiny_decoder(**changes):
    torch.manual_seed(0)
    sizes = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn_width": 40, "vocab_size": 50}
    decoder = Decoder(DecoderCfg(**sizes | changes), added_tokens=2).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            # With the small weights of the start, positions hardly hear of each other.
            parameter += 0.2 * torch.randn(parameter.shape)
    return decoder


def causal(length):
    return torch.ones(length, length, dtype=torch.bool).tril()[None, None]


@pytest.fixture
def embeddings():
    return torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1))


def test_a_position_that_the_mask_hides_changes_nothing(embeddings):
    decoder, mask, positions = tiny_decoder(), causal(7), torch.arange(7)[None]
    mask[..., 5:, 2] = False
    before = decoder(embeddings, mask, positions)
    embeddings[:, 2] += 1.0
    changed = (decoder(embeddings, mask, positions) != before).any(dim=-1)
    # Of the positions from 2 on, those that may read it; 5 and 6 hear of it by way of 3 and 4.
    assert changed.all(dim=0).tolist() == [False, False, True, True, True, True, True]
    mask[..., 3:, 2] = False
    before = decoder(embeddings, mask, positions)
    embeddings[:, 2] -= 1.0
    changed = (decoder(embeddings, mask, positions) != before).any(dim=-1)
    assert changed.any(dim=0).tolist() == [False, False, True, False, False, False, False]


def test_only_distances_count_and_each_position_is_the_one_told(embeddings):
    decoder, mask = tiny_decoder(), causal(7)
    plain = decoder(embeddings, mask, torch.arange(7)[None])
    torch.testing.assert_close(decoder(embeddings, mask, torch.arange(7)[None] + 100), plain, rtol=0, atol=1e-5)
    moved = decoder(embeddings, mask, torch.tensor([[0, 1, 2, 3, 4, 5, 9]]))
    assert torch.equal(moved[:, :6], plain[:, :6])
    assert (moved[:, 6] - plain[:, 6]).abs().max() > 1e-3


@pytest.mark.parametrize("pieces", [[7], [3, 4], [3, 1, 1, 2]])
def test_positions_in_pieces_give_the_logits_of_all_at_once(embeddings, pieces):
    decoder, mask, positions = tiny_decoder(), causal(7), torch.arange(7)[None]
    whole = decoder(embeddings, mask, positions)
    cache, start, found = decoder.make_cache(7), 0, []
    for size in pieces:
        part = slice(start, start := start + size)
        found.append(decoder(embeddings[:, part], mask[..., part, :start], positions[:, part], cache))
    torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=0, atol=1e-5)
    assert cache.length == 7


def test_a_cache_is_shared_by_rows_that_go_on_differently(embeddings):
    decoder, mask, positions = tiny_decoder(), causal(7), torch.arange(7)[None]
    cache = decoder.make_cache(7)
    decoder.run(embeddings[:, :4], mask[..., :4, :4], positions[:, :4], cache)
    ends = torch.randn(6, 3, 32, generator=torch.Generator().manual_seed(2))
    shared = decoder(ends, mask[..., 4:, :], positions[:, 4:], cache.repeat(3))
    rows = torch.cat([embeddings[:, :4].repeat_interleave(3, dim=0), ends], dim=1)
    whole = decoder(rows, mask, positions)[:, 4:]
    torch.testing.assert_close(shared, whole, rtol=0, atol=1e-5)
    chosen = torch.tensor([1, 1, 0])
    picked = decoder(ends[:3], mask[..., 4:, :], positions[:, 4:], cache.select(chosen))
    rows = torch.cat([embeddings[chosen, :4], ends[:3]], dim=1)
    torch.testing.assert_close(picked, decoder(rows, mask, positions)[:, 4:], rtol=0, atol=1e-5)
    assert cache.length == 4, "the prefix can be repeated again"


def test_a_new_position_is_written_into_its_place():
    decoder = tiny_decoder()
    cache, places = decoder.make_cache(5), []
    for step in range(5):
        decoder.run(torch.randn(1, 1, 32), None, torch.tensor([[step]]), cache)
        places.append({tensor.data_ptr() for kept in cache._kept for tensor in kept})
    assert places == [places[0]] * 5
    with pytest.raises(AssertionError, match="5 positions is asked for 6"):
        decoder.run(torch.randn(1, 1, 32), None, torch.tensor([[5]]), cache)


def test_attention_maps_are_what_the_blocks_read_by(embeddings):
    decoder, mask, positions = tiny_decoder(), causal(7), torch.arange(7)[None]
    mask[..., 5:, 2] = False
    attended = []
    for block in decoder.blocks:
        block.attn.out_proj.register_forward_pre_hook(lambda _, inputs: attended.append(inputs[0]))
    decoder.run(embeddings, mask, positions)
    values = []
    for block in decoder.blocks:
        block.attn.v_proj.register_forward_hook(lambda *args: values.append(args[2]))
    maps = list(attention_maps(decoder, embeddings, mask, positions))
    assert [one.shape for one in maps] == [(2, 4, 7, 7)] * 2
    for one, read, value in zip(maps, attended, values[::2], strict=False):
        torch.testing.assert_close(one.sum(dim=-1), torch.ones(2, 4, 7))
        assert not one[~mask.expand_as(one)].any()
        value = value.unflatten(-1, (2, 8)).transpose(1, 2).repeat_interleave(2, dim=1)
        torch.testing.assert_close((one @ value).transpose(1, 2).flatten(2), read, rtol=0, atol=1e-5)


def test_gradients_with_and_without_checkpointing_are_the_same(embeddings):
    found = []
    for is_on in (False, True):
        decoder = tiny_decoder().train()
        decoder.grad_checkpointing = is_on
        decoder(embeddings, causal(7), torch.arange(7)[None]).square().mean().backward()
        found.append([parameter.grad for name, parameter in decoder.named_parameters() if name[:5] != "token"])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_norms_and_logits_keep_fp32_when_matrices_are_half(embeddings):
    decoder = tiny_decoder()
    expected = decoder(decoder.embed(torch.arange(7)[None]), causal(7), torch.arange(7)[None])
    for linear in (module for module in decoder.modules() if isinstance(module, torch.nn.Linear)):
        linear.to(torch.bfloat16)
    embedded = decoder.embed(torch.arange(7)[None])
    assert embedded.dtype == torch.bfloat16
    logits = decoder(embedded, causal(7), torch.arange(7)[None])
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=0, atol=0.5)


def test_added_rows_start_wide_in_the_table_and_narrow_in_the_head():
    torch.manual_seed(0)
    decoder = Decoder(DecoderCfg(width=1024, layers=1, heads=4, ffn_width=8, vocab_size=300), added_tokens=2)
    table, head = decoder.token_embedding.weight, decoder.head.weight
    assert [round(rows.std().item(), 2) for rows in (table[:300], head[:300])] == [0.02, 0.02]
    assert 0.95 < table[300:].std() < 1.05
    bound = 1024**-0.5
    assert bound * 0.98 < head[300:].abs().max() <= bound


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"heads": 3}, "width is 32 and heads 3"),
        ({"heads": 32}, "same even share"),
        ({"kv_heads": 3}, "kv_heads is 3; it must divide heads, which is 4"),
        ({"kv_heads": 8}, "kv_heads is 8"),
        ({"ffn_width": 0}, "ffn_width is 0"),
        ({"norm_eps": 0.0}, "norm_eps is 0.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny_decoder(**changes)
