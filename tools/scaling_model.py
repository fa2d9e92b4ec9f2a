"""What one training step needs, from first principles: memory, operations, bytes on the wire, seconds.

Counts come from our own models, built without memory. Formulas assume amp_bf16 and full captions; the tables are
`scaling_table.py`'s. Shapes: N parameters, B rows of a rank, W ranks, G = B x W, E features' width, L tokens, D width.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

import open_clip
from scaling_devices import HOP_S, LINK_SHARE, Device
from training.profiler import count_params, profile_torch_image, profile_torch_text

FP32 = 4
# Matrices of the loss alive at its peak: both log-softmaxes and both gradients (a test measures it).
LOSS_MATRICES = 4
# Two buffers of a tile: scores, and what is made of them.
_TILE_ROWS, _TILE_COLUMNS, _TILE_MATRICES = 1024, 32768, 2
BUCKET_BYTES = 25 * 2**20


@dataclass(frozen=True)
class Kinds:
    """Bytes an element has in what a backward pass needs.

    Attributes:
        compute: inputs of matrix products.
        norm: inputs of layer norms; autocast of accelerators computes these in fp32.
        residual: what goes from block to block.
    """

    compute: int
    norm: int
    residual: int


@dataclass(frozen=True)
class Tower:
    """One side of a model: sizes, parameters, forward operations of one sample."""

    tokens: int
    width: int
    heads: int
    layers: int
    hidden: int
    input_elements: int
    parameters: int
    block_parameters: int
    operations: float

    def block_bytes(self, kinds: Kinds) -> int:
        """Return what one block keeps of one sample: norms, q k v, attention, and the hidden layer twice."""
        matrices = (6 * self.width + 2 * self.hidden) * kinds.compute
        norms = 2 * (self.width * kinds.norm + 2 * FP32)
        return self.tokens * (matrices + norms + self.heads * FP32)

    def saved_bytes(self, kinds: Kinds, checkpointing: bool) -> int:
        """Return what a forward pass keeps of one sample for the backward pass."""
        norms = 2 if self.input_elements else 1
        ends = norms * self.tokens * (self.width * kinds.norm + 2 * FP32)
        ends += self.input_elements * kinds.compute * 1
        # The image's last norm is kept whole, the caption's only where it is read.
        ends += (self.tokens if self.input_elements else 1) * self.width * kinds.residual + 8 * self.tokens
        if not checkpointing:
            return ends + self.layers * self.block_bytes(kinds)
        return ends + self.layers * self.tokens * self.width * kinds.residual

    def repeated_operations(self) -> float:
        """Count what checkpointing computes again: the blocks, but for their last product, which nothing needs."""
        products = 2 * self.width * (4 * self.width + self.hidden) + 4 * self.tokens * self.width
        return float(self.layers * self.tokens * products)

    def passing_bytes(self, kinds: Kinds, checkpointing: bool) -> int:
        """Return the most that a backward pass adds: gradients round one hidden layer, and a block computed again."""
        gradients = 2 * self.tokens * self.hidden * kinds.compute
        return gradients + (self.block_bytes(kinds) if checkpointing else 0)


@dataclass(frozen=True)
class Model:
    """Both towers and what stands between them."""

    name: str
    embed: int
    parameters: int
    towers: tuple[Tower, Tower]

    @property
    def forward_flops(self) -> float:
        """Operations of one sample's forward pass."""
        return sum(tower.operations for tower in self.towers)

    def train_flops(self, checkpointing: bool) -> float:
        """Count the operations of one sample's step; backward costs two forwards."""
        repeated = sum(tower.repeated_operations() for tower in self.towers) if checkpointing else 0
        return 3 * self.forward_flops + repeated

    def saved_bytes(self, kinds: Kinds, checkpointing: bool) -> int:
        """Return what a forward pass keeps of one sample."""
        return sum(tower.saved_bytes(kinds, checkpointing) for tower in self.towers)

    def sample_bytes(self, kinds: Kinds, checkpointing: bool) -> int:
        """Return what one sample takes at the peak of a step."""
        return self.saved_bytes(kinds, checkpointing) + max(
            tower.passing_bytes(kinds, checkpointing) for tower in self.towers
        )


def accelerator_kinds() -> Kinds:
    """Return the element sizes of amp_bf16 on accelerators, the residual taken at its larger."""
    return Kinds(compute=2, norm=4, residual=4)


@cache
def count_model(name: str) -> Model:
    """Build a model without memory and count it."""
    with torch.device("meta"):
        model: Any = open_clip.create_model(name, force_custom_text=True, pretrained_text=False, device="meta")
    config = open_clip.get_model_config(name) or {}
    side = config["vision_cfg"]["image_size"]
    context = config["text_cfg"].get("context_length", 77)
    tokens = (side // config["vision_cfg"]["patch_size"]) ** 2 + 1
    image = _count_tower(model.visual, tokens, 3 * side * side, profile_torch_image(model.visual, (3, side, side)))
    text = _count_tower(model.text, context, 0, profile_torch_text(model.text, (context,)))
    return Model(name, config["embed_dim"], count_params(model), (image, text))


def _count_tower(tower: Any, tokens: int, input_elements: int, operations: float) -> Tower:
    blocks = tower.transformer.resblocks
    return Tower(
        tokens,
        tower.transformer.width,
        blocks[0].attn.num_heads,
        len(blocks),
        blocks[0].mlp.c_fc.out_features,
        input_elements,
        count_params(tower),
        count_params(blocks[0]),
        operations,
    )


def state_bytes(model: Model, ranks: int, fsdp: bool) -> dict[str, float]:
    """Return a rank's bytes for weights, gradients, AdamW's two moments and bfloat16 copies of weights."""
    parameters = model.parameters
    if not fsdp or ranks == 1:
        return {"weights": 4.0 * parameters, "gradients": 4.0 * parameters, "adamw": 8.0 * parameters} | {
            "copies": 2.0 * parameters
        }
    # Blocks are gathered one at a time and one ahead; what is in no block stays whole from forward to backward.
    block = max(tower.block_parameters for tower in model.towers)
    rest = parameters - _in_blocks(model)
    return {"weights": 4 * parameters / ranks, "gradients": 4 * parameters / ranks, "adamw": 8 * parameters / ranks} | {
        "copies": 2.0 * (2 * block + rest) + 4.0 * max(block, rest)
    }


def _in_blocks(model: Model) -> int:
    return sum(tower.layers * tower.block_parameters for tower in model.towers)


def loss_bytes(model: Model, batch: int, ranks: int, form: str) -> float:
    """Return a rank's bytes for the contrastive loss and the features gathered for it.

    Args:
        form: ``tiles`` scores a rank's own images, some at a time; without tiles, ``global`` scores all rows in each
            rank and ``local`` its own.
    """
    everything = batch * ranks
    if form == "tiles":
        scores = _TILE_MATRICES * min(batch, _TILE_ROWS) * min(everything, _TILE_COLUMNS)
        # All texts and their gradients; own images, scaled images, gradients of both sides.
        return FP32 * (scores + (2 * everything + 4 * batch) * model.embed)
    rows = {"global": everything, "local": batch}[form]
    # Features of both sides and their gradients.
    return FP32 * (LOSS_MATRICES * rows * everything + 4 * everything * model.embed)


def loss_flops(model: Model, batch: int, ranks: int, form: str) -> float:
    """Return a rank's operations for the scores and their gradients; for ``form`` see :func:`loss_bytes`."""
    everything = batch * ranks
    # Tiles are made twice; a local loss scores own images and own texts.
    products = {"tiles": 4 * batch, "local": 3 * 2 * batch, "global": 3 * everything}[form]
    return 2.0 * model.embed * products * everything


def sent_bytes(model: Model, batch: int, ranks: int, gradients: str = "ddp") -> dict[str, float]:
    """Return what each rank of a ring sends in a step.

    Args:
        gradients: ``ddp`` all-reduces fp32, ``ddp_bf16`` half of it; ``fsdp`` gathers bfloat16 weights (blocks twice)
            and reduce-scatters fp32 gradients.
    """
    share = (ranks - 1) / ranks
    blocks = _in_blocks(model)
    wire = {
        "ddp": 2 * 4.0 * model.parameters,
        "ddp_bf16": 2 * 2.0 * model.parameters,
        "fsdp": 2.0 * (2 * blocks + model.parameters - blocks) + 4.0 * model.parameters,
    }[gradients]
    everything = batch * ranks
    # The loss by tiles gathers texts, adds up a maximum and a sum of each column and the loss, and sends back texts'
    # gradients by reduce-scatter, and the scale's.
    texts = FP32 * everything * model.embed
    sums = 2 * FP32 * (2 * everything + 1)
    return {
        "gradients": share * wire,
        "gather": share * (texts + sums),
        "gather_backward": share * (texts + 2 * FP32),
    }


def wire_seconds(sent: float, ranks: int, device: Device, messages: int = 1) -> float:
    """Return how long a ring takes to send so much from each rank."""
    if ranks == 1:
        return 0.0
    rate = device.fast_gbs
    if ranks > device.domain:
        # As many rings as a domain has ranks, each with a network port of its own, share the traffic.
        rate = min(rate, device.domain * device.slow_gbs)
    return sent / (rate * 1e9 * LINK_SHARE) + messages * HOP_S * math.ceil(math.log2(ranks))


@dataclass(frozen=True)
class Step:
    """Seconds of one step, and what the wire adds to it."""

    compute_s: float
    gradients_s: float
    features_s: float
    exposed_s: float
    samples_per_s: float

    @property
    def exposed_share(self) -> float:
        """Share of the step in which only the wire works."""
        return self.exposed_s / (self.compute_s + self.exposed_s)


def time_step(model: Model, batch: int, ranks: int, device: Device, checkpointing: bool, gradients: str) -> Step:
    """Time a step with the loss by tiles; gradients travel during the backward pass, features do not."""
    rate = device.tflops * 1e12 * device.utilisation
    towers = batch * model.train_flops(checkpointing) / rate
    compute = towers + loss_flops(model, batch, ranks, "tiles") / rate
    sent = sent_bytes(model, batch, ranks, gradients)
    messages = math.ceil(4 * model.parameters / BUCKET_BYTES)
    wire = wire_seconds(sent["gradients"], ranks, device, messages)
    features = wire_seconds(sent["gather"], ranks, device, 4) + wire_seconds(sent["gather_backward"], ranks, device, 2)
    backward = towers - batch * model.forward_flops / rate
    # The last bucket has nothing left to hide behind.
    exposed = features + max(wire - backward, wire / messages)
    return Step(compute, wire, features, exposed, batch * ranks / (compute + exposed))


def save_interval(save_s: float, ranks: int, failures_per_day: float) -> tuple[float, float, float]:
    """Return the mean time between failures, Young's and Daly's best time between saves, all in seconds.

    Source: Young 1974, "A first order approximation to the optimum checkpoint interval"; Daly 2006, "A higher order
    estimate of the optimum checkpoint interval for restart dumps", equation 37.
    """
    between = 86400 / (failures_per_day * ranks)
    young = math.sqrt(2 * save_s * between)
    part = save_s / (2 * between)
    daly = young * (1 + math.sqrt(part) / 3 + part / 9) - save_s if part < 1 else between
    return between, young, daly
