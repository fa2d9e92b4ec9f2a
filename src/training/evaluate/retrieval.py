"""Image-text retrieval metrics in two definitions, from ranks that are counted instead of sorted.

Encodes nothing and gathers nothing: it takes the features of the whole set, on any device. Legend of shape suffixes:
N pairs (texts), P unique pictures, T pairs in a tile, C embedding width.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from open_clip.errors import DataError, NumericsError

logger = logging.getLogger(__name__)

RECALL_AT = (1, 5, 10)

# One tile of scores holds about this many float32 values (16 MB), whatever the size of the set.
_TILE_SCORES = 1 << 22
_MAX_TILE_ROWS = 1024
_COLLAPSED = 1e-6


@dataclass(frozen=True)
class PictureGroups:
    """Which rows show the same picture; numpy on the host, so that no device has to sort integers."""

    first_row: np.ndarray  # [P] row that speaks for each picture, in order of first appearance
    picture_of: np.ndarray  # [N] picture index of each row
    counts: np.ndarray  # [P] rows of each picture


def group_pictures(image_ids: Tensor | Sequence[int] | np.ndarray) -> PictureGroups:
    """Number the unique pictures of a set in order of their first row."""
    ids = image_ids.cpu().numpy() if isinstance(image_ids, Tensor) else np.asarray(image_ids)
    _, first_row, inverse, counts = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
    by_appearance = np.argsort(first_row)
    position = np.empty_like(by_appearance)
    position[by_appearance] = np.arange(len(by_appearance))
    return PictureGroups(first_row[by_appearance], position[inverse.reshape(-1)], counts[by_appearance])


def retrieval_metrics(
    image_features: Tensor,
    text_features: Tensor,
    image_ids: Tensor | Sequence[int] | np.ndarray,
    tile: int | None = None,
) -> dict[str, float]:
    """Measure retrieval in both directions, by the trainer's definition and by the benchmark's.

    Row i of both features is pair i; rows that share an image id show the same picture, and the features of its first
    row stand for all of them. Two families of keys come back, in this order:

    - ``image_to_text_*`` and ``text_to_image_*`` (``mean_rank, median_rank, R@1, R@5, R@10``): pairs one to one. Only
      row i's own caption is right for row i; another caption of the same picture counts as wrong. Ranks start at 1.
    - ``text_retrieval_recall@K``: share of unique pictures with any of their captions among the K best;
      ``image_retrieval_recall@K``: share of captions with their picture among the K best unique pictures.

    Ties go by position, as in a stable sort of descending scores: ahead of the right answer stands what scores higher,
    and what scores the same and comes earlier (texts and rows by row, unique pictures by first row). One to one, the
    k-th caption of a picture therefore finds its row behind the k - 1 rows before it that show the same picture. The
    figures are the same on every run, they are those of upstream's newest definition, and a collapsed model, whose
    scores are all equal, gets about what chance gives instead of a perfect score.

    Args:
        image_features: [N, C], float32, normalised.
        text_features: [N, C], float32, normalised.
        image_ids: [N], equal for rows of the same picture.
        tile: Rows compared at a time; chosen from N when None. Peak memory is O(tile x N).

    Raises:
        DataError: The set is empty or the three arguments disagree in length.
        NumericsError: A feature is not finite; counting would make such a row look perfect.

    Source: open_clip 3.3.0 ``get_clip_metrics`` (one to one; its HEAD for the order of ties), CLIP_benchmark
    ``zeroshot_retrieval`` (any caption).
    """
    _check_features(image_features, text_features, len(image_ids))
    groups = group_pictures(image_ids)
    num_pairs, num_pictures = len(groups.picture_of), len(groups.first_row)
    rows = tile or max(1, min(_MAX_TILE_ROWS, _TILE_SCORES // num_pairs))
    with torch.no_grad():
        texts = text_features.float()
        pictures = image_features.float()
        if num_pictures < num_pairs:
            pictures = pictures[torch.from_numpy(groups.first_row).to(pictures.device)]
        image_to_text = count_texts_ahead(pictures, texts, groups, rows)
        text_to_image, text_to_picture = count_pictures_ahead(pictures, texts, groups, rows)

    any_caption = np.full(num_pictures, num_pairs, dtype=image_to_text.dtype)
    np.minimum.at(any_caption, groups.picture_of, image_to_text)
    metrics = _rank_summary("image_to_text", image_to_text) | _rank_summary("text_to_image", text_to_image)
    metrics |= {f"text_retrieval_recall@{k}": float(np.mean(any_caption < k)) for k in RECALL_AT}
    metrics |= {f"image_retrieval_recall@{k}": float(np.mean(text_to_picture < k)) for k in RECALL_AT}
    return metrics | {"num_images": num_pictures, "num_texts": num_pairs}


def count_texts_ahead(pictures_PC: Tensor, texts_NC: Tensor, groups: PictureGroups, rows: int) -> np.ndarray:
    """Count, for each pair, the texts that its picture puts before the pair's own text.

    A text of the same score is ahead when its row comes first.

    Returns:
        0-based ranks [N], int64, in row order.
    """
    # Pairs are visited picture by picture: the pictures of a tile are then a slice and scored once each.
    pair_order = np.argsort(groups.picture_of, kind="stable")
    picture_order = groups.picture_of[pair_order]
    device = texts_NC.device
    pairs_N = torch.from_numpy(pair_order).to(device)
    pictures_N = torch.from_numpy(picture_order).to(device)
    # Filled in place: small tensors kept alive between tiles would pin the heap above each freed tile (3 GB at 25k).
    counts = torch.empty(len(pair_order), dtype=torch.int64, device=device)
    rows_N = torch.arange(len(pair_order), device=device)
    for start in range(0, len(pair_order), rows):
        stop = min(start + rows, len(pair_order))
        first, last = int(picture_order[start]), int(picture_order[stop - 1])
        scores = pictures_PC[first : last + 1] @ texts_NC.T
        if last - first + 1 < stop - start:
            scores = scores[pictures_N[start:stop] - first]
        pairs_T1 = pairs_N[start:stop, None]
        own_T1 = scores.gather(1, pairs_T1)
        is_ahead = (scores > own_T1) | ((scores == own_T1) & (rows_N < pairs_T1))
        counts[start:stop] = is_ahead.sum(dim=1)
    ranks = np.empty(len(pair_order), dtype=np.int64)
    ranks[pair_order] = counts.cpu().numpy()
    return ranks


def count_pictures_ahead(
    pictures_PC: Tensor, texts_NC: Tensor, groups: PictureGroups, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count, for each text, the pictures it puts before its own.

    A picture of the same score is ahead when its first row comes first. Among rows, a better picture counts with all
    of its rows, and one of the same score, the text's own included, with those before the text's row.

    Returns:
        0-based ranks [N] among rows and among unique pictures.
    """
    device = texts_NC.device
    owner_N1 = torch.from_numpy(groups.picture_of).to(device)[:, None]
    rows_each_P = torch.from_numpy(groups.counts).to(device, torch.int32)
    pictures_P = torch.arange(len(groups.counts), device=device)
    rows_seen_P = torch.zeros_like(rows_each_P)
    by_picture = torch.empty(len(texts_NC), dtype=torch.int64, device=device)
    by_row = torch.empty_like(by_picture)
    for start in range(0, len(texts_NC), rows):
        scores = texts_NC[start : start + rows] @ pictures_PC.T
        owner_T1 = owner_N1[start : start + rows]
        own_T1 = scores.gather(1, owner_T1)
        is_better, is_equal = scores > own_T1, scores == own_T1
        by_picture[start : start + rows] = (is_better | (is_equal & (pictures_P < owner_T1))).sum(dim=1)
        # Rows of each picture up to and including the text's own, which must not count as ahead of itself.
        rows_seen_TP = (pictures_P == owner_T1).cumsum(dim=0, dtype=torch.int32).add_(rows_seen_P)
        by_row[start : start + rows] = torch.where(is_better, rows_each_P, rows_seen_TP * is_equal).sum(dim=1) - 1
        rows_seen_P.copy_(rows_seen_TP[-1])
    return by_row.cpu().numpy(), by_picture.cpu().numpy()


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
            f"retrieval needs one picture and one text a row, got image features {list(image_features.shape)}, "
            f"text features {list(text_features.shape)} and {num_ids} image ids; pass the rows of whole pairs"
        )
    if not num_ids:
        raise DataError("retrieval metrics of an empty set: no pair was evaluated; check --val-data")
    for name, features in (("image", image_features), ("text", text_features)):
        if not bool(torch.isfinite(features).all()):
            bad_rows = int((~torch.isfinite(features).all(dim=1)).sum())
            raise NumericsError(
                f"{bad_rows} of {num_ids} {name} features are not finite; the weights are damaged or the precision "
                "overflows: evaluate an earlier checkpoint, or with --precision fp32"
            )
        if num_ids > 1 and float((features.amax(0) - features.amin(0)).max()) < _COLLAPSED:
            logger.warning(
                "All %d %s features are equal: the model has collapsed. Every score ties, "
                "so the recall figures of this evaluation follow the order of the rows and mean nothing.",
                num_ids,
                name,
            )
