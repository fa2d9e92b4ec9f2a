"""A language given by a table: the next word depends on the last one only, so that searches can be checked by hand."""

import itertools

from torch import Tensor

from open_clip.generation import Decoder

START, END = 0, 1


class WordTable(Decoder):
    """Scores the word after another by a table [V, V]."""

    def __init__(self, table: Tensor, window: int = 100) -> None:
        self.table = table
        self.window = window

    def next_logits(self, ids: Tensor) -> Tensor:
        """Look the last words of texts [R, L] up: [R, V]."""
        return self.table[ids[:, -1]]

    def reorder(self, rows: Tensor) -> None:
        """Do nothing: the texts themselves say all."""


def best_text(table: Tensor, max_length: int, min_length: int = 0) -> list[int]:
    """Try every text that starts at ``START`` and return the one of the highest score per token."""
    found = []
    words = range(table.shape[0])
    for length in range(2, max_length + 1):
        for tail in itertools.product(words, repeat=length - 1):
            if END in tail[:-1] or (tail[-1] == END and length - 1 < min_length):
                continue
            if tail[-1] != END and length < max_length:
                continue
            text = [START, *tail]
            total = sum(table[a, b].item() for a, b in itertools.pairwise(text))
            found.append((total / length, text))
    return max(found)[1]
