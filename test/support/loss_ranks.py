"""One rank's part of the contrastive losses, to be run in its own process and compared with one rank's whole."""

import itertools
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from open_clip.loss import (
    ClipLoss,
    CoCaLoss,
    DistillClipLoss,
    SigLipLoss,
    neighbour_exchange_bidir_with_grad,
    neighbour_exchange_with_grad,
)
from training.distributed import World

ROWS, WIDTH, TOKENS, VOCABULARY = 12, 8, 5, 7
# (local_loss, gather_with_grad): those that upstream gives the gradients of one rank for.
MODES = [(False, False), (False, True), (True, True)]
ALL_MODES = [*MODES, (True, False)]
# Rows of this rank or of all: tiles of 2 leave a smaller last one with 3 rows and more.
TILE_ROWS = 2
KINDS = {"clip": ClipLoss, "distill": DistillClipLoss, "coca": partial(CoCaLoss, 2.0, 0.5)}
SIGLIP_MODES = [(impl, chunk_size) for impl in ("bidir", "shift", "reduce", "gather") for chunk_size in (0, 2)]


def _features(seed: int, rows: slice) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64), dim=-1)[rows].clone()


def _captions(rows: slice) -> tuple[Tensor, Tensor]:
    """Scores of captions and captions of as many tokens in every row, so that ranks have equal counts."""
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(ROWS, TOKENS, VOCABULARY, generator=generator, dtype=torch.float64)
    labels = torch.randint(1, VOCABULARY, (ROWS, TOKENS), generator=generator)
    labels[:, -1] = 0
    return logits[rows], labels[rows]


def loss_and_gradients(loss: ClipLoss | SigLipLoss, rows: slice) -> list[Tensor]:
    """The loss of some rows, and its gradients for images, texts and scale, for SigLIP also for the bias."""
    leaves = [_features(0, rows), _features(1, rows), torch.tensor(14.0, dtype=torch.float64)]
    if isinstance(loss, SigLipLoss):
        leaves.append(torch.tensor(-9.0, dtype=torch.float64))
    for leaf in leaves:
        leaf.requires_grad_()
    if isinstance(loss, DistillClipLoss):
        teacher = (_features(2, rows), _features(3, rows), torch.tensor(9.0, dtype=torch.float64))
        value = sum(loss(*leaves, *teacher))
    elif isinstance(loss, CoCaLoss):
        images, texts, scale = leaves
        value = sum(loss(images, texts, *_captions(rows), scale))
    else:
        value = loss(*leaves)
    value.backward()
    return [value.detach(), *(leaf.grad for leaf in leaves)]


def neighbours_and_gradients(rank: int, world_size: int) -> list[Tensor]:
    """What a rank gets from the one on its right, from its left and from one round the ring, and what comes back."""
    left, right = (rank - 1) % world_size, (rank + 1) % world_size
    sent = [torch.tensor([10.0 * rank + place], requires_grad=True) for place in range(3)]
    received = [*neighbour_exchange_bidir_with_grad(left, right, *sent[:2])]
    received.append(neighbour_exchange_with_grad(left, right, sent[2]))
    sum(value * (rank + 1) for value in received).backward()
    return [*(value.detach() for value in received), *(leaf.grad for leaf in sent)]


def score_rank(world: World) -> dict[Any, Any]:
    """Score this rank's rows in every mode with every loss."""
    rank, world_size = world.rank, world.world_size
    rows = slice(rank * ROWS // world_size, (rank + 1) * ROWS // world_size)
    answers = {}
    for name, kind in KINDS.items():
        for mode in MODES:
            options = dict(zip(("local_loss", "gather_with_grad"), mode, strict=True))
            loss = kind(**options, cache_labels=True, rank=rank, world_size=world_size)
            answers[name, mode] = loss_and_gradients(loss, rows)
        for mode, tile_rows in itertools.product(ALL_MODES, (0, TILE_ROWS)):
            options = dict(zip(("local_loss", "gather_with_grad"), mode, strict=True))
            loss = kind(**options, rank=rank, world_size=world_size, tile_rows=tile_rows)
            answers[name, mode, tile_rows] = loss_and_gradients(loss, rows)
    for dist_impl, chunk_size in SIGLIP_MODES:
        loss = SigLipLoss(rank=rank, world_size=world_size, dist_impl=dist_impl, chunk_size=chunk_size)
        answers["siglip", dist_impl, chunk_size] = loss_and_gradients(loss, rows)
    answers["neighbours"] = neighbours_and_gradients(rank, world_size)
    return answers
