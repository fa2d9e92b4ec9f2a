"""Texts on their way to a text tower, as one value: token ids, lengths, and how they are computed without padding.

A data loader makes it, the text tower opens it; what stands between them hands it on. Planning is ``layout.py``'s job.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from open_clip.transformer.layout import TextLayout


# Not a tuple: wrappers for several processes take tuples apart and would move the lengths to the device.
@dataclass(frozen=True, eq=False)
class Texts:
    """The texts of a batch.

    Attributes:
        ids: token ids, int64 [B, L].
        lengths: int64 [B] on the host, tokens up to and with the end-of-text token; None when that token is unknown.
        layout: how they are computed without their padding; None to compute all positions.
    """

    ids: Tensor
    lengths: Tensor | None = None
    layout: TextLayout | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def for_model(self) -> "Texts | Tensor":
        """Give what a model is called with: the token ids alone, which any model takes, where nothing is planned.

        Plans are made only for models that ``can_skip_padding``; those of programs may know nothing but tensors.
        """
        return self.ids if self.layout is None else self

    def fixed_shapes(self) -> frozenset[tuple[int, int]]:
        """Give the (rows, length) that are computed, where these are of a few; none where they follow the texts."""
        return frozenset() if self.layout is None or self.layout.is_packed else frozenset(self.layout.shapes)

    def to(self, device: torch.device | str | torch.dtype, non_blocking: bool = False) -> "Texts":
        """Return the texts with what is computed on ``device``; lengths stay on the host.

        Asked for a floating type, as apex asks all inputs of a model, return the texts as they are.
        """
        if isinstance(device, torch.dtype):
            return self
        layout = None if self.layout is None else self.layout.to(device, non_blocking=non_blocking)
        return replace(self, ids=self.ids.to(device, non_blocking=non_blocking), layout=layout)

    def pin_memory(self) -> "Texts":
        """Return the texts with what goes to a device in pinned memory."""
        layout = None if self.layout is None else self.layout.pin_memory()
        return replace(self, ids=self.ids.pin_memory(), layout=layout)


def open_texts(text: Tensor | Texts) -> tuple[Tensor, TextLayout | None]:
    """Give token ids [B, L] and, where they were planned, their layout."""
    return (text.ids, text.layout) if isinstance(text, Texts) else (text, None)
