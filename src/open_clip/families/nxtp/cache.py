"""Keys and values of positions that a decoder has seen, so that each is computed once.

Shapes: R rows, H heads of keys and values, T positions of one call, K positions seen so far, d head width.
"""

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

_Change: TypeAlias = Callable[[Tensor], Tensor]


class Cache:
    """Keys and values of every layer, for at most ``capacity`` positions.

    Memory is taken once, at the first call and when rows are repeated: a further position is written into its place.

    Attributes:
        length: Positions that all layers hold.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        # A layer's keys and values, each [R, H, capacity, d].
        self._kept: list[tuple[Tensor, Tensor] | None] = [None] * layers

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add a layer's keys and values of new positions, [R, H, T, d], and return all of it, [R, H, K + T, d].

        ``advance`` counts the new positions, once all layers have them.
        """
        kept = self._kept[layer]
        if kept is None:
            shape = (*keys.shape[:2], self.capacity, keys.shape[-1])
            kept = self._kept[layer] = (keys.new_empty(shape), values.new_empty(shape))
        end = self.length + keys.shape[2]
        assert end <= self.capacity, f"a cache for {self.capacity} positions is asked for {end}"
        for whole, new in zip(kept, (keys, values), strict=True):
            whole[:, :, self.length : end] = new
        return kept[0][:, :, :end], kept[1][:, :, :end]

    def advance(self, positions: int) -> None:
        """Say that all layers have got this many positions."""
        self.length += positions

    def repeat(self, times: int) -> "Cache":
        """Return a cache in which every row stands ``times`` times, one after the other; this one stays as it is."""
        return self._copy(lambda whole: whole[:, :, : self.length].repeat_interleave(times, dim=0))

    def select(self, rows: Tensor) -> "Cache":
        """Return a cache whose row i is row ``rows[i]`` (int64 [N]) of this one, which stays as it is."""
        return self._copy(lambda whole: whole[rows, :, : self.length])

    def _copy(self, change: _Change) -> "Cache":
        made = Cache(len(self._kept), self.capacity)
        made.length = self.length
        for layer, kept in enumerate(self._kept):
            if kept is not None:
                keys, values = (self._with_room(change(whole)) for whole in kept)
                made._kept[layer] = (keys, values)
        return made

    def _with_room(self, seen: Tensor) -> Tensor:
        whole = seen.new_empty(*seen.shape[:2], self.capacity, seen.shape[-1])
        whole[:, :, : self.length] = seen
        return whole
