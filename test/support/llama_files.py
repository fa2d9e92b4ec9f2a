"""A tiny decoder as others write theirs: Meta's file and a Hugging Face folder, made without the library's tables."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_clip.families.nxtp.decoder import Decoder, DecoderCfg

CFG = DecoderCfg(width=32, layers=3, heads=4, kv_heads=2, ffn_width=48, vocab_size=60, norm_eps=1e-3, rope_base=300.0)
_PARTS = (
    # ours, Meta's, Hugging Face's
    ("norm_1", "attention_norm", "input_layernorm"),
    ("attn.q_proj", "attention.wq", "self_attn.q_proj"),
    ("attn.k_proj", "attention.wk", "self_attn.k_proj"),
    ("attn.v_proj", "attention.wv", "self_attn.v_proj"),
    ("attn.out_proj", "attention.wo", "self_attn.o_proj"),
    ("norm_2", "ffn_norm", "post_attention_layernorm"),
    ("mlp.gate_proj", "feed_forward.w1", "mlp.gate_proj"),
    ("mlp.down_proj", "feed_forward.w2", "mlp.down_proj"),
    ("mlp.up_proj", "feed_forward.w3", "mlp.up_proj"),
)
_ENDS = (
    ("token_embedding", "tok_embeddings", "model.embed_tokens"),
    ("norm", "norm", "model.norm"),
    ("head", "output", "lm_head"),
)


def make_decoder(added_tokens: int = 0, layers: int = 3, seed: int = 0) -> Decoder:
    """Make the decoder with large weights, in eval mode."""
    torch.manual_seed(seed)
    decoder = Decoder(DecoderCfg(**vars(CFG) | {"layers": layers}), added_tokens).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return decoder


def to_side_by_side(weight: Tensor, heads: int) -> Tensor:
    """Move rows, one by one, from half a head apart to side by side."""
    moved, width = torch.empty_like(weight), len(weight) // heads
    for head in range(heads):
        for channel in range(width // 2):
            moved[head * width + 2 * channel] = weight[head * width + channel]
            moved[head * width + 2 * channel + 1] = weight[head * width + width // 2 + channel]
    return moved


def meta_weights(decoder: Decoder) -> dict[str, Tensor]:
    """Name and order the weights as Meta does, with the table of frequencies that its files hold."""
    own = {name: value.clone() for name, value in decoder.state_dict().items()}
    named = {f"{theirs}.weight": own[f"{ours}.weight"] for ours, theirs, _ in _ENDS}
    for layer in range(len(decoder.blocks)):
        for ours, theirs, _ in _PARTS:
            weight = own[f"blocks.{layer}.{ours}.weight"]
            heads = {"attention.wq": CFG.heads, "attention.wk": CFG.kv_heads}.get(theirs)
            named[f"layers.{layer}.{theirs}.weight"] = weight if heads is None else to_side_by_side(weight, heads)
    return named | {"rope.freqs": torch.arange(4.0)}


def write_meta(folder: Path, decoder: Decoder, **params: Any) -> Path:
    """Write ``consolidated.00.pth`` and ``params.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(meta_weights(decoder), folder / "consolidated.00.pth")
    told = {"dim": 32, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-3, "rope_theta": 300.0}
    (folder / "params.json").write_text(json.dumps(told | {"vocab_size": -1, "multiple_of": 16} | params))
    return folder


def write_hf(folder: Path, decoder: Decoder, shards: int = 1, pickled: bool = False, **config: Any) -> Path:
    """Write a Hugging Face folder with weights in one file or several."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    own = decoder.state_dict()
    named = {f"{theirs}.weight": own[f"{ours}.weight"] for ours, _, theirs in _ENDS}
    for layer in range(len(decoder.blocks)):
        named |= {
            f"model.layers.{layer}.{theirs}.weight": own[f"blocks.{layer}.{ours}.weight"] for ours, _, theirs in _PARTS
        }
    stem, ending = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    write = torch.save if pickled else save_file
    if shards == 1:
        write(named, folder / f"{stem}.{ending}")
    else:
        places = {name: f"{stem}-{1 + at % shards:05d}-of-{shards:05d}.{ending}" for at, name in enumerate(named)}
        for place in set(places.values()):
            write({name: named[name].clone() for name in named if places[name] == place}, folder / place)
        (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"weight_map": places}))
    told = {
        "model_type": "llama",
        "hidden_size": 32,
        "num_hidden_layers": len(decoder.blocks),
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "vocab_size": 60,
        "rms_norm_eps": 1e-3,
        "rope_theta": 300.0,
    }
    (folder / "config.json").write_text(json.dumps(told | config))
    return folder
