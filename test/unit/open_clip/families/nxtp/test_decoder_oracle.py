"""The decoder gives the logits of transformers' LlamaForCausalLM, with a mask and positions of any kind."""

import re

import pytest
import torch

from extras import needs_hf
from open_clip.families.nxtp.convert import load_decoder
from open_clip.families.nxtp.decoder import Decoder, DecoderCfg

pytestmark = needs_hf

# Written down here once more: the converter's own table is what other tests hold against this one.
THEIRS = (
    ("token_embedding", "model.embed_tokens"),
    (r"blocks\.(\d+)\.norm_1", r"model.layers.\1.input_layernorm"),
    (r"blocks\.(\d+)\.norm_2", r"model.layers.\1.post_attention_layernorm"),
    (r"blocks\.(\d+)\.attn\.out_proj", r"model.layers.\1.self_attn.o_proj"),
    (r"blocks\.(\d+)\.attn\.", r"model.layers.\1.self_attn."),
    (r"blocks\.(\d+)\.mlp\.", r"model.layers.\1.mlp."),
    ("norm", "model.norm"),
    ("head", "lm_head"),
)


def their_name(name):
    return next(re.sub(f"^{ours}", theirs, name) for ours, theirs in THEIRS if re.match(ours, name))


@pytest.fixture(params=[(None, 1e-5), (2, 1e-3), (1, 1e-6)], ids=["plain", "grouped", "one"])
def pair(request):
    """Our decoder and theirs, with the same large random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    kv_heads, eps = request.param
    torch.manual_seed(0)
    cfg = DecoderCfg(64, 3, 4, kv_heads, 172, 400, norm_eps=eps, rope_base=500.0)
    ours = Decoder(cfg, added_tokens=2).eval()
    theirs = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=kv_heads or 4,
            intermediate_size=172,
            vocab_size=402,
            rms_norm_eps=eps,
            rope_parameters={"rope_type": "default", "rope_theta": 500.0},
            tie_word_embeddings=False,
        )
    ).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += 0.15 * torch.randn(parameter.shape)
    theirs.load_state_dict({their_name(name): value for name, value in ours.state_dict().items()}, strict=True)
    return ours, theirs


def random_mask(rows, length):
    mask = torch.rand(rows, 1, length, length, generator=torch.Generator().manual_seed(3)) < 0.6
    return mask | torch.eye(length, dtype=torch.bool)


@torch.no_grad()
def test_logits_under_any_mask_and_positions(pair):
    ours, theirs = pair
    embeddings = torch.randn(2, 11, 64, generator=torch.Generator().manual_seed(1))
    positions = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 3, 4, 3, 4], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]])
    mask = random_mask(2, 11)
    expected = theirs(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions).logits
    found = ours(embeddings, mask, positions)
    assert expected.std() > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_tokens_are_looked_up_alike(pair):
    ours, theirs = pair
    ids, mask = torch.tensor([[1, 400, 7, 401]]), random_mask(1, 4).tril()
    positions = torch.arange(4)[None]
    expected = theirs(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(ours(ours.embed(ids), mask, positions), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_cache_goes_on_as_theirs(pair):
    from transformers import DynamicCache

    ours, theirs = pair
    embeddings = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(1))
    mask, positions = random_mask(1, 9).tril(), torch.arange(9)[None]
    cache, their_cache, start = ours.make_cache(9), DynamicCache(), 0
    for size in (6, 1, 2):
        part, start = slice(start, start + size), start + size
        expected = theirs(
            inputs_embeds=embeddings[:, part],
            attention_mask=mask[..., part, :start].expand(2, -1, -1, -1),
            position_ids=positions[:, part],
            past_key_values=their_cache,
            use_cache=True,
        ).logits
        found = ours(embeddings[:, part], mask[..., part, :start], positions[:, part], cache)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_what_transformers_writes_is_loaded(pair, tmp_path):
    ours, theirs = pair
    theirs.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    loaded = Decoder(DecoderCfg(**vars(ours.cfg) | {"vocab_size": 402}))
    load_decoder(loaded, tmp_path)
    expected = ours.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
