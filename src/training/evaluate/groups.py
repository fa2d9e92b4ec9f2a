"""Which rows of a set show the same image. Compares no features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class ImageGroups:
    """Which rows show the same image; numpy on the host, so that no device has to sort integers."""

    first_row: np.ndarray  # [P] row that speaks for each image, in order of first appearance
    image_of: np.ndarray  # [N] image index of each row
    counts: np.ndarray  # [P] rows of each image


def group_images(image_ids: Tensor | Sequence[int] | np.ndarray) -> ImageGroups:
    """Number the unique images of a set in order of their first row."""
    ids = image_ids.cpu().numpy() if isinstance(image_ids, Tensor) else np.asarray(image_ids)
    _, first_row, inverse, counts = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
    by_appearance = np.argsort(first_row)
    position = np.empty_like(by_appearance)
    position[by_appearance] = np.arange(len(by_appearance))
    return ImageGroups(first_row[by_appearance], position[inverse.reshape(-1)], counts[by_appearance])
