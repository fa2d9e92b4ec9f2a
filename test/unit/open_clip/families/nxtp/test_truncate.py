"""A decoder cut to its first blocks computes what the whole one does whose later blocks are left out."""

import ctypes
import gc
import json
import os
import re
from pathlib import Path

import pytest
import torch

import truncate_decoder as tool
from extras import needs_hf
from llama_files import CFG, make_decoder, write_hf, write_meta
from open_clip.errors import CheckpointError
from open_clip.families.nxtp import truncate
from open_clip.families.nxtp.convert import load_decoder
from open_clip.families.nxtp.decoder import Decoder, DecoderCfg
from open_clip.families.nxtp.truncate import truncate_decoder

WRITERS = {
    "meta": write_meta,
    "hf-3-shards": lambda folder, decoder: write_hf(folder, decoder, shards=3),
    "hf-2-bins": lambda folder, decoder: write_hf(folder, decoder, shards=2, pickled=True),
    "tied": lambda folder, decoder: write_hf(folder, decoder, tie_word_embeddings=True),
}


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", WRITERS)
def test_the_cut_decoder_is_the_whole_ones_beginning(kind, layers, tmp_path):
    written = make_decoder()
    if kind == "tied":
        written.head.weight.copy_(written.token_embedding.weight)
    truncate_decoder(WRITERS[kind](tmp_path / "llama", written), tmp_path / "cut", layers)
    cut = Decoder(DecoderCfg(**vars(CFG) | {"layers": layers})).eval()
    load_decoder(cut, tmp_path / "cut")
    written.blocks = written.blocks[:layers]
    embeddings, mask = torch.randn(1, 5, 32), torch.ones(5, 5).tril().bool()[None, None]
    inputs = (embeddings, mask, torch.arange(5)[None])
    assert torch.equal(cut(*inputs), written(*inputs))
    assert json.loads((tmp_path / "cut/config.json").read_text())["num_hidden_layers"] == layers


class TestWithTransformers:
    pytestmark = needs_hf

    @torch.no_grad()
    def test_the_folder_is_read(self, tmp_path):
        from transformers import LlamaForCausalLM

        written = make_decoder()
        truncate_decoder(write_meta(tmp_path / "llama", written), tmp_path / "cut", 2)
        theirs = LlamaForCausalLM.from_pretrained(tmp_path / "cut").eval()
        written.blocks = written.blocks[:2]
        embeddings, mask = torch.randn(1, 5, 32), torch.ones(5, 5).tril().bool()[None, None]
        expected = theirs(inputs_embeds=embeddings, attention_mask=mask).logits
        torch.testing.assert_close(written(embeddings, mask, torch.arange(5)[None]), expected, rtol=0, atol=1e-5)


def test_types_and_tokenizer_are_kept(tmp_path):
    source = write_meta(tmp_path / "llama/7b", make_decoder().to(torch.bfloat16))
    (tmp_path / "llama/tokenizer.model").write_bytes(b"pieces")
    truncate_decoder(source, tmp_path / "cut", 1)
    assert (tmp_path / "cut/tokenizer.model").read_bytes() == b"pieces"
    assert json.loads((tmp_path / "cut/config.json").read_text())["torch_dtype"] == "bfloat16"
    size = sum(parameter.numel() for parameter in make_decoder(layers=1).parameters()) * 2
    assert json.loads((tmp_path / "cut/model.safetensors.index.json").read_text())["metadata"]["total_size"] == size


def test_a_folder_that_is_not_empty_and_a_missing_file_are_refused(tmp_path, capsys):
    source = write_meta(tmp_path / "llama", make_decoder())
    flags = ["--source", str(source), "--out", str(tmp_path / "cut"), "--layers"]
    assert tool.main([*flags, "4"]) == 4
    assert "has 3 layers and 4 are asked for; ask for 1 to 3" in capsys.readouterr().err
    assert tool.main([*flags, "1"]) == 0
    assert "1 blocks, " in capsys.readouterr().out
    assert tool.main([*flags, "1"]) == 4
    assert "cut: it is there and not empty" in capsys.readouterr().err
    (source / "consolidated.00.pth").unlink()
    assert tool.main([*flags[:3], str(tmp_path / "other"), "--layers", "1"]) == 4
    assert str(source / "consolidated.00.pth") in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_run_that_is_killed_leaves_nothing_that_can_be_read(tmp_path, monkeypatch):
    def die(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(truncate, "_copy_tokenizer", die)
    with pytest.raises(KeyboardInterrupt):
        truncate_decoder(write_meta(tmp_path / "llama", make_decoder()), tmp_path / "cut", 1)
    with pytest.raises(CheckpointError, match="there is no decoder"):
        load_decoder(make_decoder(), tmp_path / "cut")


def resident(name):
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory cannot be reset here")
@pytest.mark.parametrize("kind", ["meta", "hf", "hf-bin"])
def test_memory_stays_under_twice_the_largest_file(kind, tmp_path):
    # All blocks are kept, the worst that can be asked for. Weights of 36 MB, as LLaMA's: the C library keeps memory
    # of smaller ones for itself.
    sizes = {"width": 1024, "layers": 1, "heads": 4, "kv_heads": 4, "ffn_width": 9000, "vocab_size": 9000}
    torch.manual_seed(0)
    written = Decoder(DecoderCfg(**vars(CFG) | sizes))
    told = {"dim": 1024, "n_layers": 1, "n_kv_heads": 4}
    if kind == "meta":
        source = write_meta(tmp_path / "llama", written, **told)
    else:
        shape = {"hidden_size": 1024, "num_key_value_heads": 4, "intermediate_size": 9000, "vocab_size": 9000}
        source = write_hf(tmp_path / "llama", written, shards=2, pickled=kind == "hf-bin", **shape)
    largest = max(path.stat().st_size for path in source.iterdir())
    del written
    gc.collect()
    # What earlier tests let go of must not hide what is taken now.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    truncate_decoder(source, tmp_path / "cut", 1)
    taken = resident("VmHWM") - before
    assert 0.1 * largest < taken < 2 * largest
