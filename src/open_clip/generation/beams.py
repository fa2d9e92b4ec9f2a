"""Beam search over a decoder. Drawing tokens is ``sampling.py``'s job.

Shapes: N images, K beams, R = N * K rows, L tokens, V vocabulary.
"""

import torch
from torch import Tensor

from open_clip.generation.decoder import Decoder
from open_clip.generation.options import GenerationOptions


class _Finished:
    """The best ended texts of one image, as many as there are beams, by their sum of scores per token."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.texts: list[tuple[float, Tensor]] = []
        self.is_done = False

    def add(self, text: Tensor, total: float, length: int) -> None:
        """Keep a text if its worth, ``total / length``, is among the best; ``text`` [L] comes without its end."""
        worth = total / length
        if len(self.texts) == self.size and worth <= self.texts[0][0]:
            return
        self.texts.append((worth, text))
        self.texts.sort(key=lambda entry: entry[0])
        if len(self.texts) > self.size:
            del self.texts[0]

    def close_if_beaten(self, best_total: float, length: int) -> None:
        """End the search of the image when the best open text of this length is no better than the worst kept."""
        if len(self.texts) == self.size and self.texts[0][0] >= best_total / length:
            self.is_done = True


def _pick(
    texts: Tensor, candidates: list[tuple[float, int, int]], finished: _Finished, options: GenerationOptions
) -> list[tuple[float, int, int]]:
    """Sort an image's candidates (total, beam, token), best first, into ended texts and the K beams that go on."""
    num_beams = texts.shape[0]
    if finished.is_done:
        return [(0.0, beam, options.pad_token_id) for beam in range(num_beams)]
    ends = set(options.eos_token_ids.tolist())
    going_on: list[tuple[float, int, int]] = []
    for place, (total, beam, token) in enumerate(candidates):
        if token not in ends:
            going_on.append((total, beam, token))
        elif place < num_beams:
            finished.add(texts[beam].clone(), total, texts.shape[1] + 1)
        if len(going_on) == num_beams:
            break
    finished.close_if_beaten(candidates[0][0], texts.shape[1] + 1)
    return going_on


def _collect(finished: list[_Finished], options: GenerationOptions, max_length: int) -> Tensor:
    """Lay the best text of each image out as [N, L], ended where there is room and filled up."""
    best = [entry.texts[-1][1] for entry in finished]
    width = min(max(len(text) for text in best) + 1, max_length)
    laid_out = best[0].new_full((len(best), width), options.pad_token_id)
    for row, text in zip(laid_out, best, strict=True):
        row[: len(text)] = text[:width]
        if len(text) < width:
            row[len(text)] = options.eos_token_ids[0]
    return laid_out


def beam_search(decoder: Decoder, ids: Tensor, num_beams: int, options: GenerationOptions, max_length: int) -> Tensor:
    """Continue texts [N, L], one an image, with ``num_beams`` beams each, and return the best of each image.

    A text's worth is the sum of its tokens' scores divided by its length, the end included. The scores are the model's
    as they are, not log probabilities: so 3.3.0 computes it, and its captions are to come out again.
    The decoder must have ``num_beams`` rows an image.

    Source: open_clip.coca_model.CoCa._generate_beamsearch (3.3.0) with transformers 4's BeamSearchScorer.

    Returns:
        int64 [N, L'], L' at most ``max_length`` unless the texts were longer to begin with.
    """
    num_images = ids.shape[0]
    ids = ids.repeat_interleave(num_beams, dim=0)
    # All beams of an image start as one text; only the first may be continued at the first step.
    totals = torch.full((num_images, num_beams), -1e9, device=ids.device)
    totals[:, 0] = 0.0
    finished = [_Finished(num_beams) for _ in range(num_images)]
    while True:
        logits = options.process(ids, decoder.next_logits(ids).float())
        vocab_size = logits.shape[1]
        worth = (logits.view(num_images, num_beams, vocab_size) + totals.unsqueeze(-1)).flatten(1)
        # Enough that K beams can go on even if every one of them also ends in each possible way.
        count = min(num_beams * (1 + len(options.eos_token_ids)), worth.shape[1])
        top, places = worth.topk(count, dim=1)
        beams, tokens = (places // vocab_size).tolist(), (places % vocab_size).tolist()
        picked: list[tuple[float, int, int]] = []
        for image, (image_totals, entry) in enumerate(zip(top.tolist(), finished, strict=True)):
            texts = ids[image * num_beams : (image + 1) * num_beams]
            candidates = list(zip(image_totals, beams[image], tokens[image], strict=True))
            chosen = _pick(texts, candidates, entry, options)
            picked += [(total, image * num_beams + beam, token) for total, beam, token in chosen]
        totals = totals.new_tensor([total for total, _, _ in picked]).view(num_images, num_beams)
        rows = ids.new_tensor([row for _, row, _ in picked])
        ids = torch.cat((ids[rows], ids.new_tensor([[token] for _, _, token in picked])), dim=1)
        if all(entry.is_done for entry in finished) or options.must_stop(ids) or ids.shape[1] >= max_length:
            break
        decoder.reorder(rows)
    for image, entry in enumerate(finished):
        if not entry.is_done:
            for beam, total in enumerate(totals[image].tolist()):
                entry.add(ids[image * num_beams + beam], total, ids.shape[1])
    return _collect(finished, options, max(max_length, ids.shape[1]))
