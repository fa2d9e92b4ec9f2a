"""Names and layouts of a decoder's weights elsewhere, and how they become ours. Reads no file.

Meta's files keep the two channels that rotate together side by side, ours and transformers' half a head apart: rows of
queries and keys are put in the other order, once. Source: facebookresearch/llama; huggingface/transformers issue 25199.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from open_clip.families.nxtp.decoder import DecoderCfg

_BLOCK_PARTS_META = {
    "attention_norm": "norm_1",
    "attention.wq": "attn.q_proj",
    "attention.wk": "attn.k_proj",
    "attention.wv": "attn.v_proj",
    "attention.wo": "attn.out_proj",
    "ffn_norm": "norm_2",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
}
_BLOCK_PARTS_HF = {
    "input_layernorm": "norm_1",
    "self_attn.q_proj": "attn.q_proj",
    "self_attn.k_proj": "attn.k_proj",
    "self_attn.v_proj": "attn.v_proj",
    "self_attn.o_proj": "attn.out_proj",
    "post_attention_layernorm": "norm_2",
    "mlp.gate_proj": "mlp.gate_proj",
    "mlp.up_proj": "mlp.up_proj",
    "mlp.down_proj": "mlp.down_proj",
}
_ENDS_META = {"tok_embeddings": "token_embedding", "norm": "norm", "output": "head"}
_ENDS_HF = {"model.embed_tokens": "token_embedding", "model.norm": "norm", "lm_head": "head"}


@dataclass(frozen=True)
class Layout:
    """How others name a decoder's weights.

    Attributes:
        ends: Names outside the blocks, to ours.
        block: What stands before a block's number.
        parts: Names inside a block, to ours.
        derived: What files hold beside the weights, made anew here.
        is_interleaved: Channels that rotate together lie side by side.
    """

    ends: Mapping[str, str]
    block: str
    parts: Mapping[str, str]
    derived: str
    is_interleaved: bool

    def own_name(self, name: str) -> str | None:
        """Translate a name into the decoder's own; None for what is no weight of it."""
        stem = name.removesuffix(".weight")
        if stem in self.ends:
            return f"{self.ends[stem]}.weight"
        found = re.fullmatch(rf"{re.escape(self.block)}(\d+)\.(.+)", stem)
        if found and found[2] in self.parts:
            return f"blocks.{int(found[1])}.{self.parts[found[2]]}.weight"
        return None

    def their_name(self, own: str) -> str:
        """Translate a name of the decoder's own into theirs."""
        stem = own.removesuffix(".weight")
        found = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
        if found:
            part = next(theirs for theirs, ours in self.parts.items() if ours == found[2])
            return f"{self.block}{found[1]}.{part}.weight"
        return f"{next(theirs for theirs, ours in self.ends.items() if ours == stem)}.weight"

    def own_names(self, layers: int) -> list[str]:
        """List our names of all weights of a decoder with this many blocks."""
        inner = [f"blocks.{layer}.{part}.weight" for layer in range(layers) for part in self.parts.values()]
        return [*(f"{end}.weight" for end in self.ends.values()), *inner]

    def is_derived(self, name: str) -> bool:
        """Tell what a file holds beside weights."""
        return re.search(self.derived, name) is not None

    def to_own(self, own: str, weight: Tensor, cfg: DecoderCfg) -> Tensor:
        """Bring a weight whose own name is known into our layout."""
        heads = _heads_of(own, cfg) if self.is_interleaved else 0
        return to_halves(weight, heads) if heads else weight


META = Layout(_ENDS_META, "layers.", _BLOCK_PARTS_META, r"(^|\.)rope\.freqs$", True)
HF = Layout(_ENDS_HF, "model.layers.", _BLOCK_PARTS_HF, r"rotary_emb\.inv_freq$", False)


def _heads_of(own: str, cfg: DecoderCfg) -> int:
    if own.endswith("attn.q_proj.weight"):
        return cfg.heads
    return (cfg.kv_heads or cfg.heads) if own.endswith("attn.k_proj.weight") else 0


def to_halves(weight: Tensor, heads: int) -> Tensor:
    """Reorder rows [H * d, D] of queries or keys: channels that rotate together from side by side to half a head."""
    _, width = weight.shape
    return weight.reshape(heads, -1, 2, width).transpose(1, 2).reshape(-1, width)


def to_pairs(weight: Tensor, heads: int) -> Tensor:
    """Undo ``to_halves``."""
    _, width = weight.shape
    return weight.reshape(heads, 2, -1, width).transpose(1, 2).reshape(-1, width)
