"""The text half of a sequence: ``<|image|>``, beginning, prompt, labels with their delimiters, end, padding.

Shapes: B rows, L text positions, a the position of a prompt's last word. Image tokens stand before all of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from open_clip.errors import ConfigError
from open_clip.families.nxtp.tokenizer import LabelTokenizer

# Rows are as long as the longest, rounded up: a device prepares fewer shapes.
_LENGTH_STEP = 8


class LabelSequences(NamedTuple):
    """Prompts with labels, row by row.

    Attributes:
        ids: int64 [B, L], padded by ``<|empty|>``.
        segments: int64 [B, L], how many delimiters stand before a position: the number of a label's tokens, from 0, its
            delimiter among them. 0 up to the answer as well; the number of delimiters from the end on.
        positions: int64 [B, L], the place of each, counted from 0 where the text begins.
        answers: int64 [B], a.
        delimiters: int64 [B], how many there are.
        labels: int64 [B], how many there are.
        lengths: int64 [B], positions up to and with the end of the text.
        left_out: int64 [B], labels for which there was no room.
    """

    ids: Tensor
    segments: Tensor
    positions: Tensor
    answers: Tensor
    delimiters: Tensor
    labels: Tensor
    lengths: Tensor
    left_out: Tensor


class _Row(NamedTuple):
    ids: list[int]
    segments: list[int]
    answer: int
    labels: int
    left_out: int


def build_sequences(
    prompts: Sequence[str],
    labels: Sequence[Sequence[str]],
    tokenizer: LabelTokenizer,
    context: int,
    mode: str = "closed",
    *,
    restart_positions: bool = False,
) -> LabelSequences:
    """Put prompts and labels together, on the host.

    Args:
        prompts: One a row.
        labels: Those of a row, in the order in which they stand.
        tokenizer: Gives ids, those of the delimiter and of added tokens too.
        context: Text positions there are at most; a label that does not fit whole is left out.
        mode: ``closed`` puts a delimiter behind every label, ``public`` between two.
        restart_positions: Count the positions of every label from the answer, as if it were the first.

    Raises:
        ConfigError: a prompt does not fit, or its last word is not one token.
        DataError: a label is empty or holds the delimiter.
    """
    rows = [_build_row(prompt, own, tokenizer, context, mode) for prompt, own in zip(prompts, labels, strict=True)]
    longest = max(len(row.ids) for row in rows)
    length = min(-(-longest // _LENGTH_STEP) * _LENGTH_STEP, context)
    ids = torch.tensor([row.ids + [tokenizer.empty_id] * (length - len(row.ids)) for row in rows])
    segments = torch.tensor([row.segments + row.segments[-1:] * (length - len(row.ids)) for row in rows])
    answers = torch.tensor([row.answer for row in rows])
    return LabelSequences(
        ids=ids,
        segments=segments,
        positions=_place(segments, answers, restart_positions),
        answers=answers,
        delimiters=segments[:, -1].clone(),
        labels=torch.tensor([row.labels for row in rows]),
        lengths=torch.tensor([len(row.ids) for row in rows]),
        left_out=torch.tensor([row.left_out for row in rows]),
    )


def _build_row(prompt: str, labels: Sequence[str], tokenizer: LabelTokenizer, context: int, mode: str) -> _Row:
    tokenizer.answer_id(prompt)
    ids = [tokenizer.image_id, tokenizer.bos_id, *tokenizer.encode(prompt)]
    answer, segments, taken = len(ids) - 1, [0] * len(ids), 0
    if len(ids) + 1 > context:
        raise ConfigError(
            f"the prompt {prompt!r} takes {len(ids) + 1} positions with the ends of the text, and there is room for "
            f"{context} behind the image: shorten it, or raise decoder_cfg.context_length."
        )
    for label in labels:
        new = tokenizer.encode_label(label)
        new = [*new, tokenizer.delimiter_id] if mode == "closed" else [tokenizer.delimiter_id] * bool(taken) + new
        if len(ids) + len(new) + 1 > context:
            continue
        ids += new
        if mode == "closed":
            segments += [taken] * len(new)
        else:
            # A delimiter closes the label before it.
            segments += [taken - 1] * bool(taken) + [taken] * (len(new) - bool(taken))
        taken += 1
    ends_in = taken if mode == "closed" else max(taken - 1, 0)
    return _Row([*ids, tokenizer.eos_id], [*segments, ends_in], answer, taken, len(labels) - taken)


def _place(segments: Tensor, answers: Tensor, restart: bool) -> Tensor:
    """Number the positions of a text, int64 [B, L]."""
    places = torch.arange(segments.shape[1]).expand_as(segments)
    if not restart:
        return places.clone()
    begins = torch.zeros_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments.diff(dim=1) > 0
    # Where the label of each position begins; 0 for the prompt and the first label, which count through.
    starts = torch.where(begins, places, 0).cummax(dim=1).values
    return torch.where(starts > 0, places - starts + answers[:, None] + 1, places)
