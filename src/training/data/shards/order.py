"""The order of samples over many shards as a pure function of (seed, epoch, position), in memory of one window.

Shards come in a shuffled order, or are drawn by weight; neighbours in it form windows of about so many samples, and the
samples of a window are shuffled among each other. Reading thus stays near few shards at a time. No rank, worker count
or restart changes the order: they only take slices.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from training.data.order import IntArray, epoch_order, hash_positions, sample_seed

DEFAULT_WINDOW: Final = 100_000
_SHARD_STREAM: Final = 3
_DRAW_STREAM: Final = 4


class ShardOrder:
    """One epoch's order of global sample positions; sample k of shard s is ``starts[s] + k``.

    Args:
        counts: int64 [S], samples of each shard.
        seed: seed of the run.
        epoch: which epoch.
        num_samples: samples of the epoch; all, once, when None. More than there are only with ``weights``.
        window: samples that are shuffled among each other, at least.
        weights: how often each shard is drawn, with replacement; None visits each once.
    """

    def __init__(
        self,
        counts: IntArray,
        seed: int,
        epoch: int,
        *,
        num_samples: int | None = None,
        window: int = DEFAULT_WINDOW,
        weights: Sequence[float] | None = None,
    ) -> None:
        total = int(counts.sum())
        self._length = total if num_samples is None else num_samples if weights is not None else min(num_samples, total)
        self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        self._counts = counts
        self._seed, self._epoch = seed, epoch
        self._slots = self._visit(weights)
        # Where each slot of the order starts, and which slots end a window.
        self._slot_starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[self._slots])])
        # A window ends with the shard that reaches a further multiple of its length: it holds whole shards.
        windows = self._slot_starts // max(window, 1)
        cuts = np.flatnonzero(windows[1:-1] != windows[:-2]) + 1 if len(self._slots) > 1 else np.zeros(0, np.int64)
        self._bounds = np.concatenate([[0], cuts, [len(self._slots)]]).astype(np.int64)
        self._window_starts = self._slot_starts[self._bounds]
        self._held: tuple[int, IntArray] | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> IntArray:
        """Return the samples at some neighbouring positions, int64."""
        start, stop, step = part.indices(self._length)
        assert step == 1
        pieces = []
        while start < stop:
            number = int(np.searchsorted(self._window_starts, start, side="right")) - 1
            first, end = int(self._window_starts[number]), int(self._window_starts[number + 1])
            pieces.append(self._window(number)[start - first : min(stop, end) - first])
            start = min(stop, end)
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def shards_after(self, position: int) -> list[int]:
        """Return the shards of the window that follows the one a position lies in."""
        number = int(np.searchsorted(self._window_starts, position, side="right"))
        if number >= len(self._bounds) - 1:
            return []
        slots = self._slots[self._bounds[number] : self._bounds[number + 1]]
        return list(dict.fromkeys(slots.tolist()))

    def _visit(self, weights: Sequence[float] | None) -> IntArray:
        """Return the shards in the order of the epoch, enough of them for its length."""
        num_shards = len(self._counts)
        if weights is None:
            return epoch_order(num_shards, _key(_SHARD_STREAM, self._seed), self._epoch)
        shares = np.cumsum(np.asarray(weights, dtype=np.float64) * (self._counts > 0))
        slots = np.zeros(0, np.int64)
        # Draw k depends on k alone, so drawing more never changes the first ones.
        num_draws = max(64, 2 * self._length // max(1, int(self._counts.mean())))
        while self._counts[slots].sum() < self._length:
            points = hash_positions(num_draws, _key(_DRAW_STREAM, self._seed), self._epoch) / 2.0**64 * shares[-1]
            slots = np.minimum(np.searchsorted(shares, points, side="right"), num_shards - 1).astype(np.int64)
            num_draws *= 2
        needed = int(np.searchsorted(np.cumsum(self._counts[slots]), self._length)) + 1
        return slots[:needed]

    def _window(self, number: int) -> IntArray:
        """Return the samples of a window in their order; the last one asked for is kept."""
        if self._held is not None and self._held[0] == number:
            return self._held[1]
        slots = self._slots[self._bounds[number] : self._bounds[number + 1]]
        samples = np.concatenate([np.arange(self._starts[slot], self._starts[slot + 1]) for slot in slots])
        samples = samples[epoch_order(len(samples), sample_seed(self._seed, self._epoch, number), self._epoch)]
        self._held = number, samples
        return samples


def _key(stream: int, seed: int) -> int:
    return sample_seed(seed, stream, 0)
