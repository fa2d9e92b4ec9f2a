"""Several texts of labels followed at once, of which the one with the highest mean log probability is taken.

Shapes: B images, K beams, R = B * K rows, L tokens, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from open_clip.families.nxtp.rows import Marks, Rows, Written


class _Text(NamedTuple):
    """A text and the log probability of each of its tokens."""

    ids: list[int]
    log_probs: list[float]

    @property
    def worth(self) -> float:
        return sum(self.log_probs) / len(self.log_probs)


def search_beams(rows: Rows, marks: Marks, k: int, steps: int, num_beams: int, patience: float) -> list[list[Written]]:
    """Write up to k labels an image, one after the other, with ``num_beams`` texts at a time.

    A text ends with its k-th delimiter. An image is done when ``patience * num_beams`` of its texts have ended, or
    after ``steps`` tokens; only where none has ended then is an open text taken.
    """
    num_images = len(rows.logits)
    rows = rows.repeat(num_beams)
    texts = [[_Text([], []) for _ in range(num_beams)] for _ in range(num_images)]
    ended: list[list[_Text]] = [[] for _ in range(num_images)]
    enough = max(1, round(num_beams * patience))
    ids = torch.empty(num_images * num_beams, 0, dtype=torch.int64, device=rows.logits.device)
    # All beams of an image begin as one text, so only the first may be continued at first.
    totals = rows.logits.new_full((num_images, num_beams), -torch.inf)
    totals[:, 0] = 0.0
    for step in range(steps):
        if step:
            rows.write(ids[:, -1], marks.number_labels(ids))
        candidates = _list_candidates(rows.logits, ids, totals, marks)
        parents: list[int] = []
        for image in range(num_images):
            is_done = len(ended[image]) >= enough
            going_on = [] if is_done else _sort(candidates[image], texts[image], ended[image], marks, k, enough)
            # A beam without a text is kept in step by one that no sum can bring back.
            going_on += [(0, _dead(texts[image][0]))] * (num_beams - len(going_on))
            parents += [image * num_beams + beam for beam, _ in going_on]
            texts[image] = [text for _, text in going_on]
        if all(len(one) >= enough for one in ended):
            break
        ids = torch.tensor([text.ids for beams in texts for text in beams], device=ids.device)
        totals = totals.new_tensor([[sum(text.log_probs) for text in beams] for beams in texts])
        rows.select(torch.tensor(parents, device=ids.device))
    return [_finish(one, beams, marks, k) for one, beams in zip(ended, texts, strict=True)]


_Candidate = tuple[int, int, float]


def _list_candidates(logits: Tensor, ids: Tensor, totals: Tensor, marks: Marks) -> list[list[_Candidate]]:
    """List for each image the best continuations: beam, token, log probability of the token; best first."""
    num_images, num_beams = totals.shape
    log_probs = marks.forbid(logits.log_softmax(dim=-1), ids).masked_fill(marks.is_end, -torch.inf)
    log_probs = log_probs.view(num_images, num_beams, -1)
    sums = (totals[:, :, None] + log_probs).flatten(1)
    # As many again as go on: of each beam one, with the delimiter, may end.
    count = min(2 * num_beams, sums.shape[1])
    best = sums.topk(count, dim=1)
    beams, tokens = best.indices // log_probs.shape[2], best.indices % log_probs.shape[2]
    own = log_probs.flatten(1).gather(1, best.indices)
    listed = zip(beams.tolist(), tokens.tolist(), own.tolist(), best.values.tolist(), strict=True)
    return [[(b, t, p) for b, t, p, total in zip(*one, strict=True) if total > -torch.inf] for one in listed]


def _sort(
    candidates: list[_Candidate], texts: list[_Text], ended: list[_Text], marks: Marks, k: int, enough: int
) -> list[tuple[int, _Text]]:
    """Put texts that end among those that have, as long as there are not enough; return those that go on."""
    going_on: list[tuple[int, _Text]] = []
    for beam, token, log_prob in candidates:
        text = _Text([*texts[beam].ids, token], [*texts[beam].log_probs, log_prob])
        if token == marks.delimiter and text.ids.count(token) == k:
            if len(ended) < enough:
                ended.append(text)
        else:
            going_on.append((beam, text))
        if len(going_on) == len(texts):
            break
    return going_on


def _dead(text: _Text) -> _Text:
    return _Text([*text.ids, 0], [*text.log_probs, -torch.inf])


def _finish(ended: list[_Text], texts: list[_Text], marks: Marks, k: int) -> list[Written]:
    """Split the best text of an image into its labels."""
    best = max(ended or texts, key=lambda text: text.worth)
    return marks.split(best.ids, best.log_probs, most=k)
