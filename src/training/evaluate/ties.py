"""Places of chosen pairs among all candidates, where scores may tie: every comparison looks at positions too.

Two to eight times slower than ``ranks.py``, which asks it only about pairs that tie.
Shapes: N pairs (texts), P unique images, T pairs in a tile, C embedding width.
"""

import numpy as np
import torch
from torch import Tensor

from training.evaluate.groups import ImageGroups
from training.evaluate.hits import count_ahead_of_own


def count_texts_ahead(
    images_PC: Tensor, texts_NC: Tensor, groups: ImageGroups, pairs: np.ndarray, rows: int
) -> np.ndarray:
    """Count, for each of some pairs, the texts that its image puts before the pair's own text.

    A text of the same score is ahead when its row comes first.

    Args:
        pairs: Rows to count for.
        rows: Pairs compared at a time.

    Returns:
        0-based ranks, int64, one a pair.
    """
    # Pairs are visited image by image: each image of a tile is scored once.
    by_image = np.argsort(groups.image_of[pairs], kind="stable")
    pair_order = pairs[by_image]
    device = texts_NC.device
    # Filled in place: small tensors kept alive between tiles would pin the heap above each freed tile (3 GB at 25k).
    counts = torch.empty(len(pairs), dtype=torch.int64, device=device)
    for start in range(0, len(pairs), rows):
        pairs_T = pair_order[start : start + rows]
        images, place_T = np.unique(groups.image_of[pairs_T], return_inverse=True)
        scores = images_PC[torch.from_numpy(images).to(device)] @ texts_NC.T
        if len(images) < len(pairs_T):
            scores = scores[torch.from_numpy(place_T.reshape(-1)).to(device)]
        counts[start : start + rows] = count_ahead_of_own(scores, torch.from_numpy(pairs_T).to(device))
    ranks = np.empty(len(pairs), dtype=np.int64)
    ranks[by_image] = counts.cpu().numpy()
    return ranks


def count_images_ahead(
    images_PC: Tensor, texts_NC: Tensor, groups: ImageGroups, pairs: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count, for the text of each of some pairs, the images it puts before its own.

    An image of the same score is ahead when its first row comes first. Among rows, a better image counts with all
    of its rows, and one of the same score, the text's own included, with those before the text's row.

    Args:
        pairs: Rows to count for.
        rows: Pairs compared at a time.

    Returns:
        0-based ranks among rows and among unique images, int64, one a pair.
    """
    device = texts_NC.device
    owner_N = torch.from_numpy(groups.image_of).to(device)
    by_image = torch.empty(len(pairs), dtype=torch.int64, device=device)
    by_row = torch.empty_like(by_image)
    for start in range(0, len(pairs), rows):
        pairs_T = torch.from_numpy(pairs[start : start + rows]).to(device)
        scores = texts_NC[pairs_T] @ images_PC.T
        by_image[start : start + rows] = count_ahead_of_own(scores, owner_N[pairs_T])
        if len(images_PC) == len(texts_NC):
            by_row[start : start + rows] = by_image[start : start + rows]
        else:
            by_row[start : start + rows] = count_ahead_of_own(scores[:, owner_N], pairs_T)
    return by_row.cpu().numpy(), by_image.cpu().numpy()
