"""What a file's content may be, whatever format it came in: plain data, and tensors no larger than the file holds them.

A few bytes seen again and again (a stride of 0, or thousands of views of one storage) would fill the memory, or the
day, of whoever reads them. So would containers that hold each other.
"""

from collections.abc import Collection, Iterable

import numpy as np
import torch
from torch import Tensor

from open_clip.errors import CheckpointError, printable

_MAX_DEPTH = 64
_MAX_ITEMS = 50_000_000
# Tied weights and averages that are the weights themselves are seen twice or thrice; what is packed and grows more
# than weights of few values do is a bomb.
_MAX_VIEWS = 4
_SLACK_BYTES = 64 << 20
_LEAVES = (type(None), bool, int, float, complex, str, bytes, bytearray, np.ndarray, torch.dtype)
_AGAIN = "Fetch or write the file again."


def most_bytes_of(held: int) -> int:
    """Give how many bytes may come of this many that are held, by being seen again or by being unpacked."""
    return _MAX_VIEWS * held + _SLACK_BYTES


def check_tree(content: object) -> None:
    """Compare everything a file holds with what it can hold; reads no value.

    Raises:
        CheckpointError: names the entry and what is wrong with it.
    """
    walk = _Walk()
    walk.visit(content, ())
    held = sum(walk.storages.values())
    if walk.seen_bytes > most_bytes_of(held):
        raise CheckpointError(
            f"its tensors take {walk.seen_bytes} bytes and the file holds {held}: the same bytes are seen many times. "
            f"{_AGAIN}"
        )


class _Walk:
    """Goes through containers, each once; knows how much it would be to go through all of it."""

    def __init__(self) -> None:
        self.storages: dict[int, int] = {}
        self.seen_bytes = 0
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def visit(self, value: object, place: tuple[object, ...]) -> int:
        """Check a value and what is in it; gives the number of items it unfolds to."""
        if isinstance(value, Tensor):
            self._visit_tensor(value, place)
            return 1
        if not isinstance(value, dict | list | tuple | set | frozenset):
            if not isinstance(value, _LEAVES):
                kind = printable(type(value).__name__, 80)
                raise CheckpointError(f"its entry {_name(place)} is a {kind}, neither a tensor nor plain data.")
            return 1
        identity = id(value)
        if identity in self._open or len(place) > _MAX_DEPTH:
            raise CheckpointError(f"its entry {_name(place)} is nested without end. {_AGAIN}")
        if identity not in self._sizes:
            self._open.add(identity)
            self._sizes[identity] = 1 + sum(self.visit(item, (*place, key)) for key, item in _items(value))
            self._open.remove(identity)
        if self._sizes[identity] > _MAX_ITEMS:
            raise CheckpointError(f"its entry {_name(place)} unfolds to more items than any checkpoint has. {_AGAIN}")
        return self._sizes[identity]

    def _visit_tensor(self, tensor: Tensor, place: tuple[object, ...]) -> None:
        is_plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if not is_plain or tensor.is_quantized or tensor.device.type != "cpu":
            kind = "sparse, quantised or of no bytes" if type(tensor) in (Tensor, torch.nn.Parameter) else type(tensor)
            raise CheckpointError(
                f"its entry {_name(place)} is no plain tensor but one that is {printable(kind, 80)}. Ask its author "
                "for plain tensors, best as safetensors."
            )
        storage = tensor.untyped_storage()
        if tensor.numel() * tensor.itemsize > storage.nbytes():
            raise CheckpointError(
                f"its entry {_name(place)} is {tuple(tensor.shape)}, which is more than the {storage.nbytes()} bytes "
                f"the file holds of it: the same values are seen many times. {_AGAIN}"
            )
        self.storages[storage.data_ptr()] = storage.nbytes()
        self.seen_bytes += tensor.numel() * tensor.itemsize


def _items(container: Collection[object]) -> Iterable[tuple[object, object]]:
    return container.items() if isinstance(container, dict) else enumerate(container)


def _name(place: tuple[object, ...]) -> str:
    return printable(".".join(str(part) for part in place[:8]) or "(all of it)", 120)
