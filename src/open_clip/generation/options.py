"""What a search may write and when it ends: checks, changes of scores, stopping. No searching here.

Shapes: R rows, L tokens, V vocabulary. Lengths count the start token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_clip.errors import ConfigError

StoppingCriterion = Callable[[Tensor, Tensor | None], bool | Tensor]


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Put -inf in place of all scores [R, V] below the ``top_k``-th of their row."""
    threshold = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[:, -1:]
    return logits.masked_fill(logits < threshold, -torch.inf)


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Put -inf in place of the scores [R, V] of the least likely tokens that together have at most ``1 - top_p``."""
    ordered, places = logits.sort(dim=-1)
    unlikely = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    unlikely[:, -1] = False
    return logits.masked_fill(unlikely.scatter(1, places, unlikely), -torch.inf)


def penalise_repetition(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Make tokens of ``ids`` [R, L] less likely: positive scores are divided by the penalty, others multiplied.

    Source: arXiv 1909.05858, section 4.1, as transformers 4 computes it.
    """
    if penalty == 1.0:
        return logits
    scores = logits.gather(1, ids)
    return logits.scatter(1, ids, torch.where(scores < 0, scores * penalty, scores / penalty))


@dataclass(frozen=True)
class GenerationOptions:
    """The settings that sampling and beam search share.

    Attributes:
        seq_len: Length at which a text ends, unless ``stopping_criteria`` say when.
        min_seq_len: Below this length a text cannot end.
        pad_token_id: What fills up a text that has ended.
        eos_token_ids: What ends a text, int64 [number of ids]; the first one is written.
        repetition_penalty: Above 1 makes tokens that stand in a text already less likely.
        stopping_criteria: Called with the ids [R, L] and None; each says whether all rows, or which [R], are to stop.
        fixed_output_length: Fill the answer up to ``seq_len``.
    """

    seq_len: int
    min_seq_len: int
    pad_token_id: int
    eos_token_ids: Tensor
    repetition_penalty: float = 1.0
    stopping_criteria: Sequence[StoppingCriterion] | None = None
    fixed_output_length: bool = False

    def __post_init__(self) -> None:
        if self.seq_len <= self.min_seq_len:
            raise ConfigError(f"generate: seq_len ({self.seq_len}) must be above min_seq_len ({self.min_seq_len}).")
        if self.repetition_penalty <= 0:
            raise ConfigError(f"generate: repetition_penalty is {self.repetition_penalty}; it must be above 0.")

    def process(self, ids: Tensor, logits: Tensor) -> Tensor:
        """Forbid texts [R, L] that are too short to end, and penalise repetition, in scores [R, V]."""
        if ids.shape[1] < self.min_seq_len:
            logits = logits.index_fill(1, self.eos_token_ids, -torch.inf)
        return penalise_repetition(logits, ids, self.repetition_penalty)

    def must_stop(self, ids: Tensor) -> bool:
        """Tell whether every text [R, L] has come to an end from outside."""
        if self.stopping_criteria is None:
            return ids.shape[1] >= self.seq_len
        stopped = torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)
        for criterion in self.stopping_criteria:
            stopped = stopped | torch.as_tensor(criterion(ids, None), device=ids.device)
        return bool(stopped.all())

    def has_ended(self, ids: Tensor) -> Tensor:
        """Tell for each text [R, L] whether its last token ends or fills it: bool [R]."""
        last = ids[:, -1]
        return torch.isin(last, self.eos_token_ids) | (last == self.pad_token_id)
