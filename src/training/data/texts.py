"""Plan on the host, before a batch travels, which tokens of its texts are computed. Runs no model."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from open_clip.transformer.layout import TextLayout, TextShapes, plan_texts
from open_clip.transformer.pooling import find_ends


@dataclass(frozen=True)
class ReadingRule:
    """Where a text tower is read: at the largest id (``argmax``) or at the first ``eos_id`` (``eos``)."""

    pool_type: str
    eos_id: int

    @classmethod
    def of(cls, model: Any) -> "ReadingRule":
        """Ask a bare model whose text tower is a native one."""
        tower = getattr(model, "text", None)
        if tower is None:
            return cls(model.text_pool_type, model.text_eos_id)
        return cls(tower.pool_type, tower.eos_id)


@dataclass(frozen=True)
class TextPlanner:
    """Makes the layout of each batch of token ids.

    Attributes:
        shapes: What is computed; ``padded`` is a layout too, of one run that leaves nothing out.
        rule: Where the model is read.
    """

    shapes: TextShapes
    rule: ReadingRule

    def __call__(self, texts: Tensor) -> TextLayout:
        """Plan token ids [B, L] that are on the host."""
        lengths = find_ends(texts, self.rule.pool_type, self.rule.eos_id) + 1
        planned = plan_texts(lengths, shapes=self.shapes, context_length=texts.shape[1])
        return planned or _one_run(lengths, texts.shape[1])


def _one_run(lengths: Tensor, context_length: int) -> TextLayout:
    rows, none = torch.arange(len(lengths)), torch.empty(0, dtype=torch.int64)
    return TextLayout(
        shapes=((len(lengths), context_length),),
        is_packed=False,
        context_length=context_length,
        rows=rows,
        slots=rows,
        order=rows,
        ends=lengths - 1,
        token_rows=none,
        positions=none,
        offsets=none.to(torch.int32),
    )
