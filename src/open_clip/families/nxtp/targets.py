"""What the positions of a text are to predict, and the loss of it.

Shapes: B rows, L text positions, N positions that predict, K alternatives, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from open_clip.families.nxtp.sequences import LabelSequences

#: How the first token of a label is learned; see ``targets``.
FIRST_TOKEN_TARGETS = ("next", "multi")
_NOTHING = -100


class Targets(NamedTuple):
    """What is to be predicted, position by position.

    Attributes:
        at: int64 [N], the positions, counted through all rows: row * L + place. ``NextLabelModel`` takes it.
        ids: int64 [N, K], what follows there. Several ids are alternatives of equal weight; -100 is none.
    """

    at: Tensor
    ids: Tensor


def targets(sequences: LabelSequences, first_token_target: str = "next", loss_on_prompt: bool = False) -> Targets:
    """Find what is to be predicted; call it on the host, where the number of positions need not be waited for.

    Labels and delimiters are predicted, the end of the text, padding and ``<|image|>`` never.

    Args:
        sequences: The texts.
        first_token_target: ``next`` predicts the first token of a label where the one before it ends, and the first
            label's at the answer. ``multi`` predicts the first tokens of all labels at the answer, with equal weight:
            their order means nothing then.
        loss_on_prompt: Predict the beginning of the text and the prompt as well, as NXTP publicly does.
    """
    places = torch.arange(sequences.ids.shape[1], device=sequences.ids.device)
    first = 1 if loss_on_prompt else sequences.answers[:, None] + 1
    # The last position of a text is its end.
    is_predicted = (places >= first) & (places < sequences.lengths[:, None] - 1)
    begins = _find_beginnings(sequences, places)
    if first_token_target == "multi":
        is_predicted &= ~begins | (places == sequences.answers[:, None] + 1)
    rows, found = is_predicted.nonzero(as_tuple=True)
    at = rows * sequences.ids.shape[1] + found - 1
    ids = sequences.ids[rows, found][:, None]
    if first_token_target == "multi":
        alternatives = _list_first_tokens(sequences, begins)
        padded = torch.cat([ids, torch.full_like(alternatives[rows, 1:], _NOTHING)], dim=1)
        is_answer = (found == sequences.answers[rows] + 1)[:, None]
        ids = torch.where(is_answer, alternatives[rows], padded)
    return Targets(at, ids)


def _find_beginnings(sequences: LabelSequences, places: Tensor) -> Tensor:
    """Mark the first token of each label, bool [B, L]."""
    begins = places == sequences.answers[:, None] + 1
    begins[:, 1:] |= sequences.segments.diff(dim=1) > 0
    return begins & (places < sequences.lengths[:, None] - 1)


def _list_first_tokens(sequences: LabelSequences, begins: Tensor) -> Tensor:
    """List the first token of each label of a row, int64 [B, K]; -100 where a row has fewer labels."""
    most = max(int(sequences.labels.max()), 1)
    listed = sequences.ids.new_full((len(sequences.ids), most), _NOTHING)
    rows, found = begins.nonzero(as_tuple=True)
    listed[rows, sequences.segments[rows, found]] = sequences.ids[rows, found]
    return listed


def token_losses(logits: Tensor, ids: Tensor) -> Tensor:
    """Compute the cross entropy of each position in fp32 at least, [N]; its sum is zero where N is.

    Args:
        logits: [N, V].
        ids: [N, K], as in ``Targets``.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    is_one = ids >= 0
    chosen = logits.gather(1, ids.clamp(min=0)).masked_fill(~is_one, 0.0)
    return logits.logsumexp(dim=1) - chosen.sum(dim=1) / is_one.sum(dim=1)
