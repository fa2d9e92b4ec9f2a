"""A LLaMA decoder: what follows each position of a sequence of embeddings. It knows no images, labels or texts.

Shapes: B rows, T positions of one call, K positions seen with those before it, D width, H heads, V vocabulary with the
added tokens. Source: arXiv 2302.13971; ``LlamaForCausalLM`` of transformers 5.24 gives the same logits.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError
from open_clip.families.nxtp.blocks import DecoderBlock, RMSNorm, Rotation, make_rotation
from open_clip.families.nxtp.cache import Cache
from open_clip.modeling.fields import check_fields, refuse_unknown
from open_clip.transformer.freezing import LayerGroup

_INIT_STD = 0.02


@dataclass
class DecoderCfg:
    """What the decoder is made of; the values here are LLaMA-2-7B's.

    Attributes:
        width: D.
        layers: Blocks.
        heads: H, of queries.
        kv_heads: Heads of keys and values, each for a group of query heads; None for as many as those.
        ffn_width: Width inside the feed-forward part.
        vocab_size: Tokens of the tokenizer, without the added ones.
        norm_eps: What the norms add to the mean square.
        rope_base: Base of the wave lengths of rotary positions.
        context_length: Positions of a whole sequence, those of the image included.
    """

    width: int = 4096
    layers: int = 32
    heads: int = 32
    kv_heads: int | None = None
    ffn_width: int = 11008
    vocab_size: int = 32000
    norm_eps: float = 1e-5
    rope_base: float = 10000.0
    context_length: int = 512

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit each other.

        Raises:
            ConfigError: names the two.
        """
        groups = self.heads if self.kv_heads is None else self.kv_heads
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ConfigError(
                f"decoder_cfg: width is {self.width} and heads {self.heads}; a head needs the same even share of it."
            )
        if not 1 <= groups <= self.heads or self.heads % groups:
            raise ConfigError(f"decoder_cfg: kv_heads is {groups}; it must divide heads, which is {self.heads}.")
        if self.ffn_width < 1:
            raise ConfigError(f"decoder_cfg.ffn_width is {self.ffn_width}; it must be 1 or more.")
        if self.norm_eps <= 0 or self.rope_base <= 1:
            raise ConfigError(
                f"decoder_cfg: norm_eps is {self.norm_eps} and rope_base {self.rope_base}; they must be above 0 and 1."
            )

    def count_weights(self, added_tokens: int) -> float:
        """Count the weights of a decoder of these sizes but for its norms."""
        shared = (self.kv_heads or self.heads) / self.heads
        block = self.width * (2.0 * self.width * (1 + shared) + 3.0 * self.ffn_width)
        return self.layers * block + 2.0 * self.width * (self.vocab_size + added_tokens)


def make_decoder_cfg(values: DecoderCfg | JsonObject) -> DecoderCfg:
    """Make the section ``decoder_cfg`` of a dict of a JSON file; an instance passes through.

    Raises:
        ConfigError: a key is not known, or a value is of another kind, out of bounds, or does not fit the others.
    """
    if isinstance(values, DecoderCfg):
        return values
    refuse_unknown("decoder_cfg", values, {field.name for field in fields(DecoderCfg)})
    check_fields("decoder_cfg", DecoderCfg, values)
    return DecoderCfg(**values)


class Decoder(nn.Module):
    """LLaMA blocks between a table of tokens and a head of its own that scores them.

    Args:
        cfg: Sizes.
        added_tokens: Tokens behind those of the tokenizer, with rows of their own in table and head.
    """

    def __init__(self, cfg: DecoderCfg, added_tokens: int = 0) -> None:
        super().__init__()
        self.cfg = cfg
        self.vocab_size = cfg.vocab_size + added_tokens
        self.grad_checkpointing = False
        self.token_embedding = nn.Embedding(self.vocab_size, cfg.width)
        sizes = (cfg.width, cfg.heads, cfg.kv_heads or cfg.heads, cfg.ffn_width, cfg.norm_eps)
        self.blocks = nn.ModuleList([DecoderBlock(*sizes) for _ in range(cfg.layers)])
        self.norm = RMSNorm(cfg.width, cfg.norm_eps)
        self.head = nn.Linear(cfg.width, self.vocab_size, bias=False)
        self._draw_weights()

    def _draw_weights(self) -> None:
        """Draw as LLaMA does, and the added rows as public NXTP does: wide in the table, as any layer in the head."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=_INIT_STD)
        known = self.cfg.vocab_size
        nn.init.normal_(self.token_embedding.weight[:known].detach(), std=_INIT_STD)
        if self.vocab_size > known:
            nn.init.normal_(self.token_embedding.weight[known:].detach())
            nn.init.kaiming_uniform_(self.head.weight[known:].detach(), a=math.sqrt(5))

    def embed(self, ids: Tensor) -> Tensor:
        """Look up tokens: int64 [B, T] to [B, T, D], in the type that the blocks take."""
        embedded: Tensor = self.token_embedding(ids)
        return embedded.to(self.head.weight.dtype)

    def make_cache(self, capacity: int) -> Cache:
        """Make an empty cache for sequences of up to ``capacity`` positions."""
        return Cache(len(self.blocks), capacity)

    def make_rotation(self, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """Make what turns queries and keys of a type by their positions, int64 [B or 1, T]."""
        return make_rotation(positions, self.cfg.width // self.cfg.heads, self.cfg.rope_base, dtype)

    def run(self, embeddings: Tensor, mask: Tensor | None, positions: Tensor, cache: Cache | None = None) -> Tensor:
        """Run the blocks and the last norm.

        Args:
            embeddings: The new positions, [B, T, D].
            mask: bool [B or 1, 1, T, K], True where a position may see another; None where each may see all. No
                position may see nothing.
            positions: Place of each in its sequence, int64 [B or 1, T].
            cache: What came before, to which the new positions are added; without gradients.

        Returns:
            What ``score`` takes, [B, T, D].
        """
        rotation = self.make_rotation(positions, embeddings.dtype)
        x = embeddings
        for layer, block in enumerate(self.blocks):
            if self.grad_checkpointing and torch.is_grad_enabled() and cache is None:
                x = checkpoint(block, x, rotation, mask, use_reentrant=False)
            else:
                x = block(x, rotation, mask, cache, layer)
        if cache is not None:
            cache.advance(x.shape[1])
        normed: Tensor = self.norm(x)
        return normed

    def score(self, hidden: Tensor) -> Tensor:
        """Score every token as what follows, [..., D] to [..., V], in fp32 at least.

        The head is large: give it only the positions that are asked about.
        """
        logits: Tensor = self.head(hidden)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def forward(self, embeddings: Tensor, mask: Tensor | None, positions: Tensor, cache: Cache | None = None) -> Tensor:
        """Score what follows every position, [B, T, V]; arguments as in ``run``."""
        return self.score(self.run(embeddings, mask, positions, cache))

    def layer_groups(self) -> list[LayerGroup]:
        """List the parts from the input to the output, for freezing and for learning rates by depth."""
        middle: list[LayerGroup] = [[block] for block in self.blocks[:-1]]
        return [[self.token_embedding], *middle, [self.blocks[-1], self.norm], [self.head]]
