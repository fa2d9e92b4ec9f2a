"""The one batch type that leaves the loaders.

It knows no task: fields that a data source does not give are None.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from open_clip.transformer.layout import TextLayout
from training.data.quarantine import Fault


class Batch(NamedTuple):
    """Images and captions, row by row.

    Attributes:
        images: uint8 [B, 3, H, W], or float when the transform gives floats.
        texts: token ids, int64 [B, L].
        keys: identity of each row, ``file:row``.
        text_lengths: int64 [B] on the host, tokens up to and with the end-of-text token.
        image_ids: int64 [B] on the host; rows of the same image share it.
        faults: bad rows met while this batch was made.
        indices: int64 [B] on the host, positions in the table.
        text_layout: how the texts are computed without their padding; None to compute all of it.
    """

    images: Tensor
    texts: Tensor
    keys: tuple[str, ...] | None = None
    text_lengths: Tensor | None = None
    image_ids: Tensor | None = None
    faults: tuple[Fault, ...] = ()
    indices: Tensor | None = None
    text_layout: TextLayout | None = None

    def to(self, device: torch.device | str, non_blocking: bool = True) -> "Batch":
        """Return the batch with what is computed on a device; what the host plans with stays on the host."""
        layout = self.text_layout
        return self._replace(
            images=self.images.to(device, non_blocking=non_blocking),
            texts=self.texts.to(device, non_blocking=non_blocking),
            text_layout=None if layout is None else layout.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> "Batch":
        """Return the batch with what goes to a device in pinned memory; the data loader calls this."""
        layout = self.text_layout
        return self._replace(
            images=self.images.pin_memory(),
            texts=self.texts.pin_memory(),
            text_layout=None if layout is None else layout.pin_memory(),
        )

    def moving_tensors(self) -> list[Tensor]:
        """List the tensors that go to a device."""
        layout = () if self.text_layout is None else self.text_layout
        return [self.images, self.texts, *(part for part in layout if isinstance(part, Tensor))]
