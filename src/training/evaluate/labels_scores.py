"""How well labels that were predicted and labels that are known cover each other: figures of one image and of a set.

Letters: T known labels, V predicted labels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Cover(NamedTuple):
    """Figures of one image.

    Attributes:
        recall: Mean over the known labels of the best similarity to a predicted one.
        precision: Mean over the predicted labels of the best similarity to a known one.
        f1: Harmonic mean of the two; 0 where they add up to 0.
        diversity: Mean similarity of two predicted labels; nan with fewer than two.
        diversity_std: Standard deviation of that; nan likewise.
    """

    recall: float
    precision: float
    f1: float
    diversity: float
    diversity_std: float


def score_labels(similarities: Tensor, among_predicted: Tensor) -> Cover:
    """Score the labels of one image.

    Args:
        similarities: [T, V], of each known to each predicted label.
        among_predicted: [V, V], of predicted labels among each other.

    Source: arXiv 2312.02142, section 4.1.
    """
    similarities, pairs = similarities.double().cpu(), among_predicted.double().cpu()
    recall = similarities.amax(dim=1).mean().item()
    precision = similarities.amax(dim=0).mean().item()
    total = recall + precision
    first, second = torch.triu_indices(len(pairs), len(pairs), offset=1)
    of_pairs = pairs[first, second]
    spread = (of_pairs.mean().item(), of_pairs.std(correction=0).item()) if len(of_pairs) else (math.nan, math.nan)
    return Cover(recall, precision, 2 * precision * recall / total if total else 0.0, *spread)


def average(covers: Sequence[Cover]) -> Cover:
    """Average each figure over images; what is nan is left out, and 0 where nothing is left."""
    columns = zip(*covers, strict=True)
    kept = [[value for value in column if not math.isnan(value)] for column in columns]
    return Cover(*(math.fsum(column) / len(column) if column else 0.0 for column in kept))
