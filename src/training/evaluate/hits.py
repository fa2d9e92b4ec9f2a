"""Where a row's own class stands among the classes by their scores. Knows no model. Letters: B rows, C classes.

In retrieval the classes are the candidates, and a row's own one is the right answer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def top_k_of(num_classes: int) -> tuple[int, ...]:
    """Give each k of the top-k accuracies of so many classes; within all of them every row would be right."""
    return (1, 5) if num_classes > 5 else (1,)


def count_hits(scores: Tensor, labels: Tensor, top_k: Sequence[int]) -> Tensor:
    """Count the rows whose own class is among the k best scores, without waiting for the device.

    Args:
        scores: [B, C].
        labels: int64 [B].
        top_k: each k; more than C counts as C.

    Returns:
        int64 [K], a count for each k.
    """
    ahead = count_ahead_of_own(scores, labels)
    return torch.stack([(ahead < k).sum() for k in top_k])


def count_ahead_of_own(scores: Tensor, labels: Tensor) -> Tensor:
    """Count for each row, int64 [B], the classes before its own; of equal scores the first class is the better."""
    own_B1 = labels[:, None]
    value_B1 = scores.gather(1, own_B1)
    is_earlier = torch.arange(scores.shape[1], device=scores.device) < own_B1
    # All that is not below: where the own score is not a number, everything.
    is_ahead = torch.where(is_earlier, ~(scores < value_B1), ~(scores <= value_B1))
    return is_ahead.sum(dim=1)


def first_best(scores: Tensor) -> Tensor:
    """Give for each row, int64 [B], the first of the classes that score best; C where a score is not a number."""
    # `argmax` promises nothing about which of equal scores it finds.
    positions = torch.arange(scores.shape[1], device=scores.device)
    is_best = scores == scores.amax(dim=1, keepdim=True)
    return torch.where(is_best, positions, scores.shape[1]).amin(dim=1)
