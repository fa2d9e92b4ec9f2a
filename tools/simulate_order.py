#!/usr/bin/env python3
"""Play the order in which many ranks read shards, without a model or an image, and check what it promises.

    python tools/simulate_order.py --ranks 64 --shards 500x10000 --batch-size 256

Every sample of the epoch is seen exactly once, whatever the ranks; a run that resumes at any step on another number of
ranks sees the same samples in that step; with weights, shards are drawn as often as asked.
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data import expand_urls
from training.data.order import IntArray, rank_batch
from training.data.shards import Selector
from training.data.shards.index_file import open_index
from training.data.shards.order import DEFAULT_WINDOW, ShardOrder

# So many slices are asked for rank by rank; beyond, all ranks of some batches are.
MOST_SLICES = 1_000_000


@dataclass(frozen=True)
class Epoch:
    """An epoch of shards: how many samples each has, and what its order depends on."""

    counts: IntArray
    seed: int = 0
    epoch: int = 0
    window: int = DEFAULT_WINDOW
    weights: tuple[float, ...] | None = None
    num_samples: int | None = None

    def order(self) -> ShardOrder:
        """Make the order anew, as a process that has just started does."""
        return ShardOrder(
            self.counts,
            self.seed,
            self.epoch,
            num_samples=self.num_samples,
            window=self.window,
            weights=self.weights,
        )


class Ledger:
    """Which samples were seen, a bit for each."""

    def __init__(self, total: int) -> None:
        self._bits: npt.NDArray[np.uint8] = np.zeros((total + 7) // 8, dtype=np.uint8)
        self.visits = 0

    def mark(self, samples: IntArray) -> None:
        """Note some samples."""
        masks = np.left_shift(np.uint8(1), (samples & 7).astype(np.uint8))
        np.bitwise_or.at(self._bits, samples >> 3, masks)
        self.visits += len(samples)

    def distinct(self) -> int:
        """Count the samples that were seen at least once."""
        step = 1 << 22
        parts = (self._bits[start : start + step] for start in range(0, len(self._bits), step))
        return sum(int(np.unpackbits(part).sum()) for part in parts)


class BrokenPromise(Exception):
    """The order is not what it should be."""


def check_once(epoch: Epoch, ranks: int, batch: int, seed: int = 0) -> str:
    """Give every rank its slices and check that they make up the epoch, each sample once.

    Raises:
        BrokenPromise: a sample is missing or comes twice.
    """
    order, global_batch = epoch.order(), ranks * batch
    num_batches = len(order) // global_batch
    apart = np.ones(num_batches, dtype=bool)
    if num_batches * ranks > MOST_SLICES:
        chosen = np.random.default_rng(seed).choice(num_batches, max(1, MOST_SLICES // ranks // 4), replace=False)
        apart = np.isin(np.arange(num_batches), chosen)
    ledger = Ledger(int(epoch.counts.sum()))
    for number in range(num_batches):
        start = number * global_batch
        if not apart[number]:
            ledger.mark(order[start : start + global_batch])
            continue
        parts = [rank_batch(order, number, global_batch, rank, ranks) for rank in range(ranks)]
        if any(len(part) != batch for part in parts):
            raise BrokenPromise(f"step {number}: a rank has another number of samples than {batch}")
        ledger.mark(np.concatenate(parts))
    left = order[num_batches * global_batch : len(order)]
    ledger.mark(left)
    distinct = ledger.distinct()
    if distinct != ledger.visits or ledger.visits != len(order):
        raise BrokenPromise(f"{ledger.visits:,} visits saw {distinct:,} of {len(order):,} samples")
    asked = "all steps" if apart.all() else f"{int(apart.sum()):,} of the steps, the others whole"
    return (
        f"once: {num_batches:,} steps of {global_batch:,}, slices of all {ranks:,} ranks in {asked}: {distinct:,} "
        f"samples seen, none twice; the last {len(left):,} fill no step and wait for the next epoch"
    )


def check_resumes(epoch: Epoch, ranks: int, batch: int, resumes: int, seed: int = 0) -> str:
    """Start afresh at random steps on other numbers of ranks, and compare the steps' samples.

    Raises:
        BrokenPromise: a step has other samples.
    """
    whole, global_batch = epoch.order(), ranks * batch
    num_batches = len(whole) // global_batch
    rng = np.random.default_rng(seed)
    others = [count for count in _divisors(global_batch) if count != ranks and count <= 4 * ranks] or [ranks]
    used = set()
    for _ in range(resumes if num_batches else 0):
        number, world = int(rng.integers(num_batches)), int(rng.choice(others))
        fresh = epoch.order()
        parts = [rank_batch(fresh, number, global_batch, rank, world) for rank in range(world)]
        if not np.array_equal(np.concatenate(parts), whole[number * global_batch : (number + 1) * global_batch]):
            raise BrokenPromise(f"step {number} has other samples on {world} ranks than on {ranks}")
        used.add(world)
    counts = ", ".join(f"{count:,}" for count in sorted(used)[:8])
    return f"resume: {resumes:,} random steps, started afresh on other numbers of ranks ({counts}): the same samples"


def check_weights(epoch: Epoch) -> str:
    """Compare how often samples of each shard come with the weights asked for.

    Raises:
        BrokenPromise: the largest difference is beyond six standard deviations.
    """
    weights = np.asarray(epoch.weights, dtype=np.float64) * (epoch.counts > 0)
    order, found = epoch.order(), np.zeros(len(epoch.counts), dtype=np.int64)
    stops = np.cumsum(epoch.counts)
    for start in range(0, len(order), 1 << 20):
        shards = np.searchsorted(stops, order[start : start + (1 << 20)], side="right")
        found += np.bincount(shards, minlength=len(found))
    # Shards are drawn by weight, so samples come by weight times size.
    expected = weights * epoch.counts / (weights * epoch.counts).sum()
    share = weights / weights.sum()
    draws = len(order) / max(1.0, float((share * epoch.counts).sum()))
    spread = np.sqrt(share * (1 - share) / draws) * epoch.counts / (share * epoch.counts).sum()
    difference = np.abs(found / max(1, len(order)) - expected)
    if (difference > 6 * spread + 2 * epoch.counts.max() / max(1, len(order))).any():
        raise BrokenPromise(f"a shard makes up {difference.max():.4f} more or less of the epoch than its weight says")
    most = f"{difference.max():.1e}"
    return f"weights: {len(order):,} samples in about {draws:,.0f} draws; no share is off by more than {most}"


def read_counts(text: str) -> IntArray:
    """Read sample counts: ``500x10000``, ``70,0,130``, or a pattern of tar files, whose indexes are read or made.

    Raises:
        ValueError: It is none of these.
    """
    if text.replace("x", "", 1).isdigit() and "x" in text:
        shards, samples = map(int, text.split("x"))
        return np.full(shards, samples, dtype=np.int64)
    if text.replace(",", "").isdigit():
        return np.array([int(part) for part in text.split(",")], dtype=np.int64)
    if ".tar" not in text:
        raise ValueError(f"--shards {text}: neither SHARDSxSAMPLES, nor counts with commas, nor tar files")
    paths, _ = expand_urls(text, None)
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise ValueError(f"--shards: {len(missing)} of {len(paths)} shards are not there, the first is {missing[0]}")
    return np.array([len(open_index(path, Selector())) for path in paths], dtype=np.int64)


def _divisors(number: int) -> list[int]:
    small = [count for count in range(1, int(number**0.5) + 1) if number % count == 0]
    return sorted({*small, *(number // count for count in small)})


def main(words: Sequence[str] | None = None) -> int:
    """Simulate and report."""
    parser = argparse.ArgumentParser(description="Play and check the order in which many ranks read shards.")
    parser.add_argument("--ranks", type=int, default=64, help="ranks of the run (default: 64)")
    parser.add_argument("--batch-size", type=int, default=256, help="samples of a rank in a step (default: 256)")
    parser.add_argument(
        "--shards", default="500x10000", help="SHARDSxSAMPLES, counts with commas, or a pattern of tar files"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the run")
    parser.add_argument("--epoch", type=int, default=0, help="which epoch")
    parser.add_argument("--window", type=int, default=DEFAULT_WINDOW, help="samples shuffled among each other")
    parser.add_argument("--weights", default=None, help="weight of each shard, with commas: draws with replacement")
    parser.add_argument("--num-samples", type=int, default=None, help="samples of the epoch (default: all)")
    parser.add_argument("--resumes", type=int, default=20, help="random steps to resume at (default: 20)")
    options = parser.parse_args(words)
    start = time.monotonic()
    try:
        counts = read_counts(options.shards)
        weights = None if options.weights is None else tuple(map(float, options.weights.split(",")))
        if weights is not None and len(weights) != len(counts):
            raise ValueError(f"--weights has {len(weights)} numbers for {len(counts)} shards")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    epoch = Epoch(counts, options.seed, options.epoch, options.window, weights, options.num_samples)
    print(f"{len(counts):,} shards, {int(counts.sum()):,} samples, window {options.window:,}, {options.ranks:,} ranks")
    try:
        if weights is None:
            print(check_once(epoch, options.ranks, options.batch_size, options.seed))
        else:
            print(check_weights(epoch))
        print(check_resumes(epoch, options.ranks, options.batch_size, options.resumes, options.seed))
    except BrokenPromise as error:
        print(f"BROKEN: {error}", file=sys.stderr)
        return 1
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"took {time.monotonic() - start:.1f} s; peak memory of the process {peak_mb:,.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
