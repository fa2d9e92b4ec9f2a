"""The one batch type that leaves the loaders.

It knows no task: fields that a data source does not give are None.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from training.data.quarantine import Fault


class Batch(NamedTuple):
    """Pictures and captions, row by row.

    Attributes:
        images: uint8 [B, 3, H, W], or float when the transform gives floats.
        texts: token ids, int64 [B, L].
        keys: identity of each row, ``file:row``.
        text_lengths: int64 [B] on the host, tokens up to and with the end-of-text token.
        image_ids: int64 [B] on the host; rows of the same picture share it.
        faults: bad rows met while this batch was made.
        indices: int64 [B] on the host, positions in the table.
    """

    images: Tensor
    texts: Tensor
    keys: tuple[str, ...] | None = None
    text_lengths: Tensor | None = None
    image_ids: Tensor | None = None
    faults: tuple[Fault, ...] = ()
    indices: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = True) -> "Batch":
        """Return the batch with pictures and texts on a device; what the host plans with stays on the host."""
        return self._replace(
            images=self.images.to(device, non_blocking=non_blocking),
            texts=self.texts.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> "Batch":
        """Return the batch with pictures and texts in pinned memory; the data loader calls this."""
        return self._replace(images=self.images.pin_memory(), texts=self.texts.pin_memory())
