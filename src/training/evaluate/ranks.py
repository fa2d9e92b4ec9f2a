"""Places of all pairs among all candidates, counted from one pass over the score matrix, tile by tile.

It sorts no scores, holds one tile at a time and reads the device once, at the end. Processes share the tiles and add up
what they counted. What the places mean is ``retrieval.py``'s.
Shapes: N pairs (texts), P unique images, S side of a tile, C embedding width.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.distributed import World, sum_over_processes
from training.evaluate.groups import ImageGroups
from training.evaluate.ties import count_images_ahead, count_texts_ahead

_SIDE = 1024
# Processes do not share what is less than this many images for each: small tiles are slow ones.
_FEWEST_IMAGES = 128
# The captions of an image are compared one after the other; with more of them the slower way is the faster.
_MOST_CAPTIONS = 32
# Scores looked at together where ties are settled: 16 MB.
_TIE_SCORES = 1 << 22


class Ranks(NamedTuple):
    """0-based ranks of the N pairs in row order, int64: how much stands ahead of the right answer."""

    texts: np.ndarray  # among all texts, for the pair's image
    rows: np.ndarray  # among the images of all rows, for the pair's text
    images: np.ndarray  # among unique images, for the pair's text


def count_ahead(
    images_PC: Tensor, texts_NC: Tensor, groups: ImageGroups, tile: int | None = None, world: World | None = None
) -> Ranks:
    """Count for each pair what its image and its text put before each other.

    Ahead is what scores higher, and what scores the same and comes earlier: texts and rows by row, images by first
    row. One pass serves both directions. Pairs that tie with something, few unless a model has collapsed, are counted
    again with an eye on positions.

    Args:
        images_PC: Features of the unique images, in the order of ``groups``.
        texts_NC: Features of all texts, in row order.
        tile: Largest side of a tile.
        world: The processes that all call this with the same and share the work; this one alone by default.
    """
    world = world or World()
    num_images, num_pairs = len(images_PC), len(texts_NC)
    rows = tile or max(1, min(_SIDE, _TIE_SCORES // num_pairs))
    # Tiles of one shape that overlap little: 1,100 images are two times 550. As many for each process.
    shares = max(1, min(world.world_size, num_images // (tile or _FEWEST_IMAGES)))
    side = _ceil_div(num_images, shares * _ceil_div(num_images, shares * (tile or _SIDE)))
    ranks = Ranks(*np.empty((3, num_pairs), dtype=np.int64))
    tied_texts = tied_images = np.arange(num_pairs)
    if int(groups.counts.max()) <= _MOST_CAPTIONS:
        tied_texts, tied_images = _Pass(images_PC, texts_NC, groups, side).count(ranks, world)
    if len(tied_texts):
        ranks.texts[tied_texts] = count_texts_ahead(images_PC, texts_NC, groups, tied_texts, rows)
    if len(tied_images):
        by_row, by_image = count_images_ahead(images_PC, texts_NC, groups, tied_images, rows)
        ranks.rows[tied_images], ranks.images[tied_images] = by_row, by_image
    return ranks


def _ceil_div(number: int, by: int) -> int:
    return -(-number // by)


class _Window(NamedTuple):
    """Positions start to stop; those before ``fresh`` were in the window before already."""

    start: int
    fresh: int
    stop: int


def _windows(length: int, side: int) -> Iterator[_Window]:
    """Cover 0 to ``length`` with windows of one size, of which the last reaches back."""
    for fresh in range(0, length, side):
        start = min(fresh, length - side)
        yield _Window(start, fresh, start + side)


class _Question(NamedTuple):
    """The k-th texts of the images in a window: how many texts score better, and how many the same."""

    num_images: int  # the first of the window's fresh ones, as many as have a k-th text
    pairs: Tensor
    own: Tensor
    better: Tensor
    equal: Tensor


class _Pass:
    """One pass over images against texts, both in an order that keeps the texts of an image together.

    The score of each pair is computed beforehand, in tiles of the shape of all others, so that it has the bits that it
    has among its competitors. The pass checks that this came true: libraries of matrix products promise nothing.
    """

    def __init__(self, images_PC: Tensor, texts_NC: Tensor, groups: ImageGroups, side: int) -> None:
        # Images of many texts first: those of a window that have a k-th text are then its first ones.
        image_order = np.argsort(-groups.counts, kind="stable")
        place = np.empty_like(image_order)
        place[image_order] = np.arange(len(image_order))
        self._pair_order = np.argsort(place[groups.image_of], kind="stable")
        self._place = place[groups.image_of[self._pair_order]]
        self._each = groups.counts[image_order]
        self._first = np.cumsum(self._each) - self._each
        self._device = texts_NC.device
        self._images = _take(images_PC, image_order)
        self._texts = _take(texts_NC, self._pair_order)
        self._place_on_device = self._on_device(self._place)
        self._each_on_device = self._on_device(self._each).float()
        self._side = side
        self._scores = torch.empty(side, side, device=self._device)
        # On a host, comparing into floats and adding those up takes a quarter of the time that booleans take.
        self._mask = torch.empty_like(self._scores) if self._scores.is_cpu else None
        self._own = self._score_pairs()

    def count(self, ranks: Ranks, world: World) -> tuple[np.ndarray, np.ndarray]:
        """Fill the ranks in, and return the rows whose texts and those whose images tie, so that theirs are wrong."""
        num_pairs = len(self._own)
        # Whole numbers, exact in float32 up to 16 million.
        counts = torch.zeros(6, num_pairs, device=self._device)
        texts_better, texts_equal, better, equal, rows_better, differs = counts
        for images in islice(_windows(len(self._images), self._side), world.rank, None, world.world_size):
            questions = self._ask(images)
            each_S1 = self._each_on_device[images.fresh : images.stop, None]
            for texts in _windows(num_pairs, self._side):
                scores = self._score(self._images[images.start : images.stop], texts)
                self._check(scores, images, texts, differs)
                scores = scores[images.fresh - images.start :, texts.fresh - texts.start :]
                for one in questions:
                    one.better.add_(self._compare(torch.gt, scores[: one.num_images], one.own).sum(1))
                    one.equal.add_(self._compare(torch.eq, scores[: one.num_images], one.own).sum(1))
                fresh = slice(texts.fresh, texts.stop)
                equal[fresh] += self._compare(torch.eq, scores, self._own[fresh]).sum(0)
                is_better = self._compare(torch.gt, scores, self._own[fresh])
                better[fresh] += is_better.sum(0)
                if self._each[0] > 1:
                    rows_better[fresh] += is_better.mul_(each_S1).sum(0)
            for one in questions:
                texts_better[one.pairs], texts_equal[one.pairs] = one.better, one.equal
        # The only time that the host waits for the device.
        return self._settle(ranks, sum_over_processes(counts, world).cpu().numpy().astype(np.int64))

    def _settle(self, ranks: Ranks, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        texts_better, texts_equal, better, equal, rows_better, differs = counts
        ranks.texts[self._pair_order] = texts_better
        ranks.images[self._pair_order] = better
        # Among rows, the earlier ones of the text's own image tie with its own row and come first.
        earlier = np.arange(len(better)) - self._first[self._place]
        ranks.rows[self._pair_order] = (rows_better if self._each[0] > 1 else better) + earlier
        if differs.any():
            return np.arange(len(better)), np.arange(len(better))
        # Each is equal to itself.
        return np.sort(self._pair_order[texts_equal != 1]), np.sort(self._pair_order[equal != 1])

    def _on_device(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(self._device)

    def _score(self, images_SC: Tensor, texts: _Window) -> Tensor:
        return torch.mm(images_SC, self._texts[texts.start : texts.stop].T, out=self._scores)

    def _score_pairs(self) -> Tensor:
        own = torch.empty(len(self._texts), device=self._device)
        for window in _windows(len(own), self._side):
            images = self._images[self._place_on_device[window.start : window.stop]]
            own[window.start : window.stop] = self._score(images, window).diagonal()
        return own

    def _compare(self, better: Callable[..., Tensor], scores: Tensor, own: Tensor) -> Tensor:
        """Compare scores with [N] own ones of their columns or [S, 1] of their rows; 1.0 where they are ahead."""
        if self._mask is None:
            return better(scores, own).float()
        return better(scores, own, out=self._mask[: scores.shape[0], : scores.shape[1]])

    def _check(self, scores: Tensor, images: _Window, texts: _Window, differs: Tensor) -> None:
        """Note for which texts of a window their own image's score in this tile, if it is there, has other bits."""
        if self._place[texts.start] >= images.stop or self._place[texts.stop - 1] < images.start:
            return
        row = self._place_on_device[texts.start : texts.stop] - images.start
        is_elsewhere = (row < 0) | (row >= self._side)
        found = scores.gather(0, row.clamp(0, self._side - 1)[None])[0]
        differs[texts.start : texts.stop] += ~is_elsewhere & (found != self._own[texts.start : texts.stop])

    def _ask(self, window: _Window) -> list[_Question]:
        first, each = (values[window.fresh : window.stop] for values in (self._first, self._each))
        questions = []
        for number in range(int(each[0])):
            # Counts fall along a window: these are the first images, as many as have more than so many texts.
            num_images = int(np.searchsorted(-each, -number))
            pairs = self._on_device(first[:num_images] + number)
            zeros = torch.zeros(2, num_images, device=self._device)
            questions.append(_Question(num_images, pairs, self._own[pairs, None], *zeros))
        return questions


def _take(features: Tensor, order: np.ndarray) -> Tensor:
    """Put rows into an order, without a copy where it is theirs already."""
    if np.array_equal(order, np.arange(len(order))):
        return features
    return features[torch.from_numpy(order).to(features.device)]
