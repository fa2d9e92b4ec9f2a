"""Make the texts of batches on the host: token ids, their lengths and which tokens are computed. Runs no model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from open_clip.protocols import SkipsPadding
from open_clip.transformer.layout import TextLayout, TextShapes, plan_texts
from open_clip.transformer.pooling import find_ends
from open_clip.transformer.texts import Texts


@dataclass(frozen=True)
class ReadingRule:
    """Where a text tower is read: at the largest id (``argmax``) or at the first ``eos_id`` (``eos``)."""

    pool_type: str
    eos_id: int

    @classmethod
    def of(cls, model: nn.Module) -> "ReadingRule | None":
        """Ask a bare model; None where all positions of its texts must be computed."""
        return cls(*model.text_reading()) if isinstance(model, SkipsPadding) and model.can_skip_padding() else None


@dataclass(frozen=True)
class TextPlanner:
    """Makes a batch's texts of token ids, with a layout for a model that ``can_skip_padding``.

    Attributes:
        shapes: What is computed; ``padded`` is a layout too, of one run that leaves nothing out.
        rule: Where the model is read.
    """

    shapes: TextShapes
    rule: ReadingRule

    def __call__(self, ids: Tensor) -> Texts:
        """Plan token ids [B, L] that are on the host."""
        lengths = find_ends(ids, self.rule.pool_type, self.rule.eos_id) + 1
        layout = plan_texts(lengths, shapes=self.shapes, context_length=ids.shape[1])
        return Texts(ids, lengths, layout or _one_run(lengths, ids.shape[1]))


def make_texts(ids: Tensor, tokenizer: object, planner: TextPlanner | None) -> Texts:
    """Make texts of token ids [B, L]; without a planner, how they are computed is left open."""
    return Texts(ids, text_lengths(ids, tokenizer)) if planner is None else planner(ids)


def plan_lengths(ids: Tensor, lengths: Tensor | None, shapes: TextShapes, batch_size: int) -> Texts:
    """Make texts of token ids [B, L] and lengths [B] that are on the host; without lengths nothing is left out.

    Args:
        batch_size: Texts that batches usually have, where this one may be a last, smaller one.
    """
    if lengths is None:
        return Texts(ids)
    layout = plan_texts(lengths, shapes=shapes, context_length=ids.shape[1], batch_size=batch_size)
    return Texts(ids, lengths, layout)


def text_lengths(texts: Tensor, tokenizer: object) -> Tensor | None:
    """Return tokens up to and with the first end-of-text token of each row, int64 [B]; None when that token is unknown.

    A row without the token counts in full.
    """
    end = getattr(tokenizer, "eot_token_id", None)
    if not isinstance(end, int) or texts.dim() != 2:
        return None
    is_end = texts == end
    lengths = is_end.int().argmax(dim=1) + 1
    return torch.where(is_end.any(dim=1), lengths, torch.full_like(lengths, texts.shape[1]))


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
