"""The one batch type that leaves the loaders.

It knows no task: what a recipe does not ask for is None or absent.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor

from open_clip.transformer.texts import Texts
from training.data.quarantine import Fault
from training.data.walk import move, pin

_NO_VALUES: Final[Mapping[str, object]] = {}


class Batch(NamedTuple):
    """What one step of one process sees, row by row.

    Attributes:
        images: uint8 [B, 3, H, W], or float when the transform gives floats.
        texts: token ids, int64 [B, L], with what is known of them.
        values: what a recipe's further fields made, by name; tensors at any depth of it travel with the batch.
        keys: identity of each row, ``file:row``.
        image_ids: int64 [B] on the host; rows of the same image share it.
        faults: bad rows met while this batch was made.
        indices: int64 [B] on the host, positions in the table.
    """

    images: Tensor
    texts: Texts
    values: Mapping[str, object] = _NO_VALUES
    keys: tuple[str, ...] | None = None
    image_ids: Tensor | None = None
    faults: tuple[Fault, ...] = ()
    indices: Tensor | None = None

    def tensor(self, name: str) -> Tensor:
        """Return a further field's value that is one tensor.

        Raises:
            KeyError: the batch has no such field.
            TypeError: its value is something else.
        """
        if name not in self.values:
            there = ", ".join(self.values) or "none"
            raise KeyError(
                f"this batch has no field {name!r}; further fields: {there}. Evaluation of a recipe with encodes_apart "
                "prepares images alone."
            )
        value = self.values[name]
        if not isinstance(value, Tensor):
            raise TypeError(f"the batch's {name!r} is no tensor but a {type(value).__name__}")
        return value

    def to(self, device: torch.device | str, non_blocking: bool = True) -> "Batch":
        """Return the batch with what is computed on a device; what the host plans with stays on the host."""
        images, texts, values = move((self.images, self.texts, self.values), device, non_blocking)
        return self._replace(images=images, texts=texts, values=values)

    def pin_memory(self) -> "Batch":
        """Return the batch with what goes to a device in pinned memory; the data loader calls this."""
        images, texts, values = pin((self.images, self.texts, self.values))
        return self._replace(images=images, texts=texts, values=values)
