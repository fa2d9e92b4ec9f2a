"""Retrieval where the right answers are sets on both sides: a text may have several images, an image several texts.

Some images may belong to no text (they only distract) and some texts to no image. The numbers of ``retrieval.py`` are
for rows of one image and one text each. Shapes: P images, N texts, R right pairs, C embedding width, T questions of a
tile.
"""

import logging
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from open_clip.errors import DataError, cut_list
from training.distributed import World, gather_objects
from training.evaluate.hits import count_ahead_of_own
from training.evaluate.retrieval import RECALL_AT, check_finite

_LOG = logging.getLogger(__name__)

# Scores looked at together: 16 MB.
_TILE_SCORES = 1 << 22


class Relevance(NamedTuple):
    """Which images and texts belong together.

    Attributes:
        image_ids: [P] names of the images, each once.
        text_ids: [N] names of the texts, each once.
        images: int64 [R], positions of the pairs' images.
        texts: int64 [R], positions of the pairs' texts.
    """

    image_ids: Sequence[Hashable]
    text_ids: Sequence[Hashable]
    images: np.ndarray
    texts: np.ndarray

    @classmethod
    def from_rows(cls, image_ids: Sequence[Hashable], text_ids: Sequence[Hashable]) -> "Relevance":
        """Take each row for a right pair: rows of one image id show one image, those of one text id hold one text.

        Images and texts are in the order of their first rows.
        """
        return cls.from_pairs(
            list(dict.fromkeys(image_ids)), list(dict.fromkeys(text_ids)), zip(image_ids, text_ids, strict=True)
        )

    @classmethod
    def from_pairs(
        cls,
        image_ids: Sequence[Hashable],
        text_ids: Sequence[Hashable],
        pairs: Iterable[tuple[Hashable, Hashable]],
    ) -> "Relevance":
        """Look up the positions of pairs (image id, text id); a pair given twice counts once.

        Raises:
            DataError: An id stands twice, or a pair names an image or a text that is not there.
        """
        place_of_image, place_of_text = _places("image", image_ids), _places("text", text_ids)
        wanted = list(dict.fromkeys(pairs))
        strange = [pair for pair in wanted if pair[0] not in place_of_image or pair[1] not in place_of_text]
        if strange:
            raise DataError(
                f"{len(strange)} of {len(wanted)} right pairs (image, text) name what is not in the set: "
                f"{cut_list(strange, 3)}. Give the features of all images and texts that pairs name."
            )
        images = np.array([place_of_image[image] for image, _ in wanted], dtype=np.int64)
        texts = np.array([place_of_text[text] for _, text in wanted], dtype=np.int64)
        return cls(image_ids, text_ids, images, texts)


def relevance_metrics(
    image_features: Tensor,
    text_features: Tensor,
    relevance: Relevance,
    *,
    top_k: Sequence[int] = RECALL_AT,
    tile: int | None = None,
    world: World | None = None,
) -> dict[str, float]:
    """Measure how well images and texts find any of their right answers.

    ``text_retrieval_*`` asks with each image that has a text, ``image_retrieval_*`` with each text that has an image;
    all texts, and all images, are candidates. Of equal scores the candidate that comes first is the better. A text
    without an image is no question: it is named in the log and counted, and does not lower the recall.

    Args:
        image_features: [P, C], float32, normalised, in the order of ``relevance.image_ids``.
        text_features: [N, C], likewise of ``relevance.text_ids``.
        relevance: The right answers.
        top_k: Each K of ``recall@K``; ``mean_recall`` is the mean of those.
        tile: Questions scored at a time; it changes no figure.
        world: The processes that all call this with the same and share the work; this one alone when None.

    Raises:
        DataError: Features and ids disagree in number, or nothing belongs together.
        NumericsError: A feature is not finite.

    Source: Chinese-CLIP ``eval/evaluation.py`` (recall of any answer, mean recall), but for texts without an answer,
    which score 0 there.
    """
    _check(image_features, text_features, relevance)
    images, texts = image_features.float(), text_features.float()
    with torch.no_grad():
        by_image = _first_ranks(images, texts, relevance.images, relevance.texts, tile, world or World())
        by_text = _first_ranks(texts, images, relevance.texts, relevance.images, tile, world or World())
    metrics = _summary("text_retrieval", by_image, top_k) | _summary("image_retrieval", by_text, top_k)
    num_images, num_texts = len(images), len(texts)
    unanswered = np.setdiff1d(np.arange(num_texts), relevance.texts)
    if len(unanswered):
        named = cut_list([relevance.text_ids[place] for place in unanswered.tolist()], 10)
        _LOG.warning("%d of %d texts have no image and are not asked with: %s", len(unanswered), num_texts, named)
    return metrics | {
        "num_images": float(num_images),
        "num_texts": float(num_texts),
        "num_images_without_text": float(num_images - len(by_image)),
        "num_texts_without_image": float(len(unanswered)),
    }


def _first_ranks(
    queries_QC: Tensor, candidates_MC: Tensor, asking: np.ndarray, answers: np.ndarray, tile: int | None, world: World
) -> np.ndarray:
    """Count, for each query that has an answer, what it puts before the first of its answers.

    Args:
        asking: int64 [R], the query of each right pair.
        answers: int64 [R], its candidate.

    Returns:
        0-based ranks, int64, one a query that has an answer, in their order.
    """
    # Pairs query by query, so that those of a tile are neighbours.
    order = np.argsort(asking, kind="stable")
    asking, answers = asking[order], answers[order]
    asked, first_pair = np.unique(asking, return_index=True)
    rows = tile or max(1, min(1024, _TILE_SCORES // len(candidates_MC)))
    stops = np.append(first_pair, len(asking))
    own = []
    # Tiles are the same whatever the number of processes, so that each score has the same bits.
    for number in range(world.rank, -(-len(asked) // rows), world.world_size):
        start, stop = number * rows, min((number + 1) * rows, len(asked))
        pairs = slice(stops[start], stops[stop])
        place = np.repeat(np.arange(stop - start), np.diff(stops[start : stop + 1]))
        scores = queries_QC[torch.from_numpy(asked[start:stop]).to(queries_QC.device)] @ candidates_MC.T
        own.append((number, _count_ahead(scores, place, answers[pairs]).cpu().numpy()))
    gathered = sorted((one for of_process in gather_objects(own, world) for one in of_process), key=lambda one: one[0])
    return np.concatenate([ranks for _, ranks in gathered])


def _count_ahead(scores_TM: Tensor, place: np.ndarray, answers: np.ndarray) -> Tensor:
    """Count in each row what stands before its best answer; of equal answers the first is the best.

    Args:
        place: int64 [R], the row of each right pair.
        answers: int64 [R], its column.
    """
    device, (num_rows, num_candidates) = scores_TM.device, scores_TM.shape
    row_R, column_R = torch.from_numpy(place).to(device), torch.from_numpy(answers).to(device)
    value_R = scores_TM[row_R, column_R]
    best_T = torch.full((num_rows,), -torch.inf, device=device).scatter_reduce(0, row_R, value_R, "amax")
    # Answers that are not the best of their row stand behind all columns.
    candidate_R = torch.where(value_R == best_T[row_R], column_R, num_candidates)
    first_T = torch.full((num_rows,), num_candidates, device=device).scatter_reduce(0, row_R, candidate_R, "amin")
    return count_ahead_of_own(scores_TM, first_T)


def _summary(direction: str, ranks: np.ndarray, top_k: Sequence[int]) -> dict[str, float]:
    recalls = {f"{direction}_recall@{k}": float(np.mean(ranks < k)) for k in top_k}
    mean = float(np.mean(list(recalls.values())))
    return {**recalls, f"{direction}_mean_recall": mean, f"{direction}_median_rank": float(np.median(ranks) + 1)}


def _places(kind: str, ids: Sequence[Hashable]) -> dict[Hashable, int]:
    places = {name: place for place, name in enumerate(ids)}
    if len(places) < len(ids):
        twice = [name for place, name in enumerate(ids) if places[name] != place]
        raise DataError(f"{len(twice)} {kind} ids stand more than once: {cut_list(twice, 3)}. Give each {kind} once.")
    return places


def _check(image_features: Tensor, text_features: Tensor, relevance: Relevance) -> None:
    wanted = len(relevance.image_ids), len(relevance.text_ids)
    if (len(image_features), len(text_features)) != wanted or image_features.shape[1:] != text_features.shape[1:]:
        raise DataError(
            f"retrieval needs a feature for each of {wanted[0]} images and {wanted[1]} texts, got image features "
            f"{list(image_features.shape)} and text features {list(text_features.shape)}"
        )
    if not len(relevance.images):
        raise DataError("no image and no text belong together: there is nothing to measure. Check the right answers.")
    check_finite("image", image_features)
    check_finite("text", text_features)
