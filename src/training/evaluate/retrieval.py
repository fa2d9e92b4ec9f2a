"""Image-text retrieval metrics in two definitions, from ranks that are counted instead of sorted.

Encodes nothing and gathers nothing: it takes the features of the whole set, on any device. Shapes: N pairs (texts), C
embedding width.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from open_clip.errors import DataError, NumericsError
from training.distributed import World
from training.evaluate.groups import group_images
from training.evaluate.ranks import count_ahead

logger = logging.getLogger(__name__)

RECALL_AT = (1, 5, 10)

_COLLAPSED = 1e-6


def retrieval_metrics(
    image_features: Tensor,
    text_features: Tensor,
    image_ids: Tensor | Sequence[int] | np.ndarray,
    tile: int | None = None,
    world: World | None = None,
) -> dict[str, float]:
    """Measure retrieval in both directions, by the trainer's definition and by the benchmark's.

    Row i of both features is pair i; rows that share an image id show the same image, and the features of its first
    row stand for all of them. Two families of keys come back, in this order:

    - ``image_to_text_*`` and ``text_to_image_*`` (``mean_rank, median_rank, R@1, R@5, R@10``): pairs one to one. Only
      row i's own caption is right for row i; another caption of the same image counts as wrong. Ranks start at 1.
    - ``text_retrieval_recall@K``: share of unique images with any of their captions among the K best;
      ``image_retrieval_recall@K``: share of captions with their image among the K best unique images.

    Ties go by position, as in a stable sort of descending scores: ahead of the right answer stands what scores higher,
    and what scores the same and comes earlier (texts and rows by row, unique images by first row). One to one, the
    k-th caption of an image therefore finds its row behind the k - 1 rows before it that show the same image. The
    figures are the same on every run, they are those of upstream's newest definition, and a collapsed model, whose
    scores are all equal, gets about what chance gives instead of a perfect score.

    Args:
        image_features: [N, C], float32, normalised.
        text_features: [N, C], float32, normalised.
        image_ids: [N], equal for rows of the same image.
        tile: Largest side of the square of scores held at a time, 1,024 when None; it changes no figure.
        world: The processes that all call this with the same features and share the counting; this one alone when None.

    Raises:
        DataError: The set is empty or the three arguments disagree in length.
        NumericsError: A feature is not finite; counting would make such a row look perfect.

    Source: open_clip 3.3.0 ``get_clip_metrics`` (one to one; its HEAD for the order of ties), CLIP_benchmark
    ``zeroshot_retrieval`` (any caption).
    """
    _check_features(image_features, text_features, len(image_ids))
    groups = group_images(image_ids)
    num_pairs, num_images = len(groups.image_of), len(groups.first_row)
    with torch.no_grad():
        texts = text_features.float()
        images = image_features.float()
        if num_images < num_pairs:
            images = images[torch.from_numpy(groups.first_row).to(images.device)]
        ranks = count_ahead(images, texts, groups, tile, world)

    any_caption = np.full(num_images, num_pairs, dtype=np.int64)
    np.minimum.at(any_caption, groups.image_of, ranks.texts)
    metrics = _rank_summary("image_to_text", ranks.texts) | _rank_summary("text_to_image", ranks.rows)
    metrics |= {f"text_retrieval_recall@{k}": float(np.mean(any_caption < k)) for k in RECALL_AT}
    metrics |= {f"image_retrieval_recall@{k}": float(np.mean(ranks.images < k)) for k in RECALL_AT}
    return metrics | {"num_images": num_images, "num_texts": num_pairs}


def _rank_summary(direction: str, ranks: np.ndarray) -> dict[str, float]:
    """Describe 0-based ranks as upstream does: mean + 1, floor of the median + 1, share below K."""
    return {
        f"{direction}_mean_rank": float(ranks.mean() + 1),
        f"{direction}_median_rank": float(np.floor(np.median(ranks)) + 1),
    } | {f"{direction}_R@{k}": float(np.mean(ranks < k)) for k in RECALL_AT}


def _check_features(image_features: Tensor, text_features: Tensor, num_ids: int) -> None:
    """Refuse what would give a figure without meaning, and warn of a collapsed model."""
    if image_features.shape != text_features.shape or len(image_features) != num_ids or image_features.ndim != 2:
        raise DataError(
            f"retrieval needs one image and one text a row, got image features {list(image_features.shape)}, "
            f"text features {list(text_features.shape)} and {num_ids} image ids; pass the rows of whole pairs"
        )
    if not num_ids:
        raise DataError("retrieval metrics of an empty set: no pair was evaluated; check --val-data")
    for name, features in (("image", image_features), ("text", text_features)):
        check_finite(name, features)


def check_finite(name: str, features: Tensor) -> None:
    """Warn of features that are all equal.

    Raises:
        NumericsError: A feature is not finite; counting would make such a row look perfect.
    """
    number = len(features)
    if not bool(torch.isfinite(features).all()):
        bad_rows = int((~torch.isfinite(features).all(dim=1)).sum())
        raise NumericsError(
            f"{bad_rows} of {number} {name} features are not finite; the weights are damaged or the precision "
            "overflows: evaluate an earlier checkpoint, or with --precision fp32"
        )
    if number > 1 and float((features.amax(0) - features.amin(0)).max()) < _COLLAPSED:
        logger.warning(
            "All %d %s features are equal: the model has collapsed. Every score ties, "
            "so the recall figures of this evaluation follow the order of the rows and mean nothing.",
            number,
            name,
        )
