"""Published weights in each layout give the decoder they were written from; another decoder's are refused."""

import json

import pytest
import torch

import open_clip
from llama_files import CFG, make_decoder, meta_weights, to_side_by_side, write_hf, write_meta
from open_clip.errors import CheckpointError
from open_clip.families.nxtp.convert import load_decoder
from open_clip.families.nxtp.decoder import Decoder, DecoderCfg
from open_clip.families.nxtp.layouts import to_halves, to_pairs

WRITERS = {
    "meta": write_meta,
    "hf": write_hf,
    "hf-3-shards": lambda folder, decoder: write_hf(folder, decoder, shards=3),
    "hf-bin": lambda folder, decoder: write_hf(folder, decoder, pickled=True),
    "hf-2-bins": lambda folder, decoder: write_hf(folder, decoder, shards=2, pickled=True),
    "hf-of-transformers-5": lambda folder, decoder: write_hf(
        folder, decoder, rope_theta=None, rope_parameters={"rope_type": "default", "rope_theta": 300.0}
    ),
}


def empty_decoder(layers=3, added_tokens=0, **changes):
    torch.manual_seed(9)
    return Decoder(DecoderCfg(**vars(CFG) | {"layers": layers} | changes), added_tokens).eval()


@pytest.mark.parametrize("kind", WRITERS)
def test_a_published_decoder_is_loaded_bit_by_bit(kind, tmp_path):
    written, loaded = make_decoder(), empty_decoder()
    load_decoder(loaded, WRITERS[kind](tmp_path / "llama", written))
    expected = written.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("kind", WRITERS)
def test_fewer_layers_take_the_first_and_added_tokens_keep_their_rows(kind, tmp_path):
    written, loaded = make_decoder(), empty_decoder(layers=2, added_tokens=2)
    before = {name: value.clone() for name, value in loaded.state_dict().items()}
    load_decoder(loaded, WRITERS[kind](tmp_path / "llama", written))
    expected = written.state_dict()
    for name, value in loaded.state_dict().items():
        if name in ("token_embedding.weight", "head.weight"):
            assert torch.equal(value[60:], before[name][60:])
            value = value[:60]
        assert torch.equal(value, expected[name])


@torch.no_grad()
def test_metas_own_arithmetic_gives_the_same_logits(tmp_path):
    """Rotations as products of complex numbers, of channels side by side; one row, causal. Source: arXiv 2104.09864."""
    written = make_decoder()
    weights, ids = meta_weights(written), torch.tensor([3, 1, 4, 1, 5, 9])
    turns = torch.outer(torch.arange(6.0), 300.0 ** (-torch.arange(0, 8, 2) / 8.0))
    turns = torch.polar(torch.ones_like(turns), turns)[:, None]

    def norm(x, name):
        return x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weights[f"{name}.weight"]

    def turned(x):
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turns).flatten(2)

    x = weights["tok_embeddings.weight"][ids]
    for layer in range(3):
        of = {name.split(".", 2)[2]: value for name, value in weights.items() if name.startswith(f"layers.{layer}.")}
        normed = norm(x, f"layers.{layer}.attention_norm")
        q, k, v = ((normed @ of[f"attention.w{one}.weight"].T).unflatten(-1, (-1, 8)) for one in "qkv")
        scores = torch.einsum("qhd,khd->hqk", turned(q), turned(k).repeat_interleave(2, dim=1)) / 8**0.5
        scores = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf).softmax(-1)
        seen = torch.einsum("hqk,khd->qhd", scores, v.repeat_interleave(2, dim=1)).flatten(1)
        x = x + seen @ of["attention.wo.weight"].T
        normed = norm(x, f"layers.{layer}.ffn_norm")
        gate = torch.nn.functional.silu(normed @ of["feed_forward.w1.weight"].T)
        x = x + (gate * (normed @ of["feed_forward.w3.weight"].T)) @ of["feed_forward.w2.weight"].T
    expected = norm(x, "norm") @ weights["output.weight"].T
    loaded = empty_decoder()
    load_decoder(loaded, write_meta(tmp_path, written))
    mask = torch.ones(6, 6).tril().bool()[None, None]
    found = loaded(loaded.embed(ids[None]), mask, torch.arange(6)[None])[0]
    assert expected.std() > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_the_order_of_rows_goes_there_and_back():
    weight = torch.randn(24, 5)
    for heads in (1, 2, 3):
        assert torch.equal(to_pairs(to_halves(weight, heads), heads), weight)
        assert torch.equal(to_pairs(weight, heads), to_side_by_side(weight, heads))


def test_a_head_that_is_the_table_is_copied(tmp_path):
    written, loaded = make_decoder(), empty_decoder()
    folder = write_hf(tmp_path, written, shards=2, tie_word_embeddings=True)
    load_decoder(loaded, folder)
    assert torch.equal(loaded.head.weight, written.token_embedding.weight)
    assert loaded.head.weight.data_ptr() != loaded.token_embedding.weight.data_ptr()


@pytest.mark.parametrize(
    "kind, missing, message",
    [
        ("meta", "consolidated.00.pth", r"llama/consolidated\.00\.pth: the weights of the decoder are expected"),
        ("meta", "params.json", r"llama/params\.json: the sizes of the decoder are expected"),
        ("hf", "model.safetensors", r"llama/model\.safetensors: the weights of the decoder are expected"),
        ("hf", "config.json", r"Expected are .*llama/consolidated\.00\.pth with params\.json.*llama/config\.json"),
        ("hf-3-shards", "model-00002-of-00003.safetensors", r"llama/model-00002-of-00003\.safetensors: the weights"),
        ("hf-2-bins", "pytorch_model-00001-of-00002.bin", r"llama/pytorch_model-00001-of-00002\.bin: the weights"),
    ],
)
def test_a_missing_file_is_told_with_the_path_expected(kind, missing, message, tmp_path):
    folder = WRITERS[kind](tmp_path / "llama", make_decoder())
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=message) as caught:
        load_decoder(empty_decoder(), folder)
    assert caught.value.exit_status == 4


@pytest.mark.parametrize("name", ["width", "heads", "kv_heads", "ffn_width", "vocab_size", "norm_eps", "rope_base"])
@pytest.mark.parametrize("kind", ["meta", "hf"])
def test_a_decoder_that_computes_something_else_is_refused(kind, name, tmp_path):
    other = {
        "width": 64,
        "heads": 2,
        "kv_heads": 4,
        "ffn_width": 50,
        "vocab_size": 61,
        "norm_eps": 1e-5,
        "rope_base": 1e4,
    }
    folder = WRITERS[kind](tmp_path, make_decoder())
    with pytest.raises(CheckpointError, match=rf"{name} of this decoder is .* and decoder_cfg\.{name} of the model is"):
        load_decoder(empty_decoder(**{name: other[name]}), folder)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"model_type": "mistral"}, "model_type is 'mistral' and must be 'llama'"),
        ({"attention_bias": True}, "attention_bias is true and must be false"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "rope_type is 'llama3' and must be 'default'"),
        ({"head_dim": 16}, "head_dim is 16 and must be 8"),
        ({"hidden_size": "x"}, r"config\.json: decoder_cfg.width is 'x'; it must be a whole number"),
    ],
)
def test_a_configuration_of_another_kind_is_refused(config, message, tmp_path):
    folder = write_hf(tmp_path, make_decoder(), **config)
    with pytest.raises(CheckpointError, match=message):
        load_decoder(empty_decoder(), folder)


def test_files_that_contradict_themselves_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="has 3 layers and 4 are asked for"):
        load_decoder(empty_decoder(layers=4), write_meta(tmp_path / "a", make_decoder()))
    (tmp_path / "a/consolidated.01.pth").touch()
    with pytest.raises(CheckpointError, match="cut over several files"):
        load_decoder(empty_decoder(), tmp_path / "a")
    folder = write_hf(tmp_path / "b", make_decoder(layers=2), num_hidden_layers=3)
    with pytest.raises(CheckpointError, match=r"9 weights are missing: .*model\.layers\.2\."):
        load_decoder(empty_decoder(), folder)
    index = write_hf(tmp_path / "c", make_decoder(), shards=2) / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": places | {"lm_head.weight": "../../elsewhere"}}))
    with pytest.raises(CheckpointError, match="has no weight_map of names to files"):
        load_decoder(empty_decoder(), tmp_path / "c")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(places, "model-00001-of-00002.safetensors")}))
    with pytest.raises(CheckpointError, match="which its index says it has"):
        load_decoder(empty_decoder(), tmp_path / "c")
    (tmp_path / "c/params.json").write_text("[]")
    (tmp_path / "c/config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        load_decoder(empty_decoder(), tmp_path / "c")


class TestPublic:
    """What the public NXTP writes: trained weights only, under the wrapper's names, beside its optimizer."""

    def model(self):
        vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
        decoder = {key: value for key, value in vars(CFG).items() if key != "context_length"}
        return open_clip.families.find_family({"family": "nxtp"}).build(
            {"vision_cfg": vision, "decoder_cfg": decoder | {"context_length": 64}}, None
        )

    @pytest.mark.parametrize("projection", ["proj", "proj.weight"])
    def test_it_is_put_on_top_of_the_base(self, tmp_path, projection):
        torch.manual_seed(0)
        trained = self.model()
        trained.decoder.load_state_dict(make_decoder(added_tokens=2).state_dict())
        eye = {name: value for name, value in trained.visual.state_dict().items() if "resblocks.1" in name}
        weight = trained.projection.weight
        named = {f"module.vision_encoder.{name}": value for name, value in eye.items()}
        named[f"module.vision_encoder.{projection}"] = weight.mT.contiguous() if projection == "proj" else weight
        named |= {f"module.language_decoder.{name}": value for name, value in meta_weights(trained.decoder).items()}
        path = tmp_path / "ckpt_03_0021360.pth"
        torch.save({"epoch": 3, "global_step": 21360, "model": named, "optimizer": {}, "scheduler": {}}, path)
        torch.manual_seed(1)
        model = self.model()
        untouched = model.visual.conv1.weight.clone()
        open_clip.load_checkpoint(model, path, strict=False)
        assert torch.equal(model.visual.conv1.weight, untouched)
        assert all(torch.equal(model.visual.state_dict()[name], value) for name, value in eye.items())
        assert torch.equal(model.projection.weight, weight)
        theirs = trained.decoder.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in model.decoder.state_dict().items())

    def test_an_entry_that_it_does_not_have_is_refused(self, tmp_path):
        path = tmp_path / "other.pth"
        torch.save({"module.language_decoder.layers.0.attention.wz.weight": torch.ones(2, 2)}, path)
        with pytest.raises(CheckpointError, match=r"other\.pth: .*1 entries that it does not have: .*wz"):
            open_clip.load_checkpoint(self.model(), path, strict=False)
