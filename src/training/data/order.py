"""The order of samples as a pure function of (seed, epoch, position); ranks and workers only take slices.

No state and no random generator: the order stays the same over library versions, restarts and world sizes.
"""

import hashlib
from functools import cache
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

_MASK: Final = (1 << 64) - 1
_GAMMA: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB
_ORDER_STREAM: Final = 1
_SAMPLE_STREAM: Final = 2


def _mix(value: int) -> int:
    """Scatter the bits of a 64-bit integer.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
    """
    value = (value + _GAMMA) & _MASK
    value = ((value ^ (value >> 30)) * _MIX_1) & _MASK
    value = ((value ^ (value >> 27)) * _MIX_2) & _MASK
    return value ^ (value >> 31)


def _mix_array(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scatter the bits of every element as ``_mix`` does; unsigned array arithmetic wraps by itself."""
    values = values + np.uint64(_GAMMA)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_MIX_1)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_MIX_2)
    mixed: npt.NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed


def _stream_key(stream: int, seed: int, epoch: int) -> int:
    return _mix(_mix(_mix(stream) ^ (seed & _MASK)) ^ (epoch & _MASK))


def epoch_order(num_samples: int, seed: int, epoch: int) -> IntArray:
    """Return the order in which one epoch visits the samples, int64 [num_samples]."""
    return np.argsort(hash_positions(num_samples, seed, epoch), kind="stable").astype(np.int64, copy=False)


def hash_positions(count: int, seed: int, epoch: int) -> npt.NDArray[np.uint64]:
    """Return an evenly spread 64-bit number for each of the first positions; a number depends on its position alone."""
    positions = np.arange(count, dtype=np.uint64)
    return _mix_array(positions ^ np.uint64(_stream_key(_ORDER_STREAM, seed, epoch)))


class SampleOrder(Protocol):
    """The rows of one epoch in their order; a slice gives some neighbouring ones, int64."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> IntArray: ...


def rank_batch(order: SampleOrder, batch_index: int, global_batch: int, rank: int, world_size: int) -> IntArray:
    """Return one rank's part of a global batch, so that W ranks of B together see what one rank of W x B sees.

    Raises:
        ValueError: the global batch does not divide by the world size.
    """
    if global_batch % world_size:
        raise ValueError(f"a global batch of {global_batch} does not divide by {world_size} ranks")
    part = global_batch // world_size
    start = batch_index * global_batch + rank * part
    return order[start : start + part]


def rank_slice(num_samples: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return start and stop of the contiguous share of one rank; shares differ by one sample at most."""
    return rank * num_samples // world_size, (rank + 1) * num_samples // world_size


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Return the 63-bit seed of one sample's augmentation, which no rank, worker or restart can change."""
    return _mix(_stream_key(_SAMPLE_STREAM, seed, epoch) ^ (index & _MASK)) >> 1


def field_seed(seed: int, name: str) -> int:
    """Return the 63-bit seed of a stream beside another one, by its name; draws of one say nothing of the other's."""
    return _mix(seed ^ _hash_name(name)) >> 1


@cache
def _hash_name(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
