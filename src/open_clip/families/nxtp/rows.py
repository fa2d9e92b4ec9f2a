"""Texts that are written behind images and a prompt: what was read is kept, and what may follow. No search here.

Shapes: B images, R rows, P positions of image and prompt, L tokens written, V vocabulary, D width.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from open_clip.families.nxtp.cache import Cache
from open_clip.families.nxtp.masks import prompt_mask
from open_clip.families.nxtp.model import NextLabelModel
from open_clip.families.nxtp.sequences import build_sequences
from open_clip.families.nxtp.tokenizer import LabelTokenizer

# How tokenizers call what stands for text they do not know.
_UNKNOWN = "<unk>"


class Written(NamedTuple):
    """A label as it was written.

    Attributes:
        ids: Its tokens, without the delimiter.
        log_probs: Of its tokens, natural; of the delimiter as well where there is one.
        is_finished: Whether the delimiter closed it.
    """

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    is_finished: bool


class Marks(NamedTuple):
    """Tokens that mean something to a search.

    Attributes:
        delimiter: Closes a label.
        ends: After which nothing is written: the ends of a text and the added tokens.
        is_end: bool [V], which these are, on the device.
        no_beginning: bool [V], with which no label can begin: those two, and what leaves no letter.
    """

    delimiter: int
    ends: frozenset[int]
    is_end: Tensor
    no_beginning: Tensor

    @classmethod
    def find(cls, tokenizer: LabelTokenizer, vocab_size: int, device: torch.device) -> "Marks":
        """Find them for a model with so many tokens, the added ones included."""
        ends = frozenset((tokenizer.bos_id, tokenizer.eos_id, *range(tokenizer.vocab_size, vocab_size)))
        is_end, no_beginning = (
            torch.tensor([token in listed for token in range(vocab_size)], device=device)
            for listed in (ends, ends.union(_list_blank(tokenizer)))
        )
        return cls(tokenizer.delimiter_id, ends, is_end, no_beginning)

    def number_labels(self, ids: Tensor) -> Tensor:
        """Count the delimiters before each token, int64 [R, L]: a delimiter belongs to the label it closes."""
        is_delimiter = (ids == self.delimiter).long()
        return is_delimiter.cumsum(dim=1) - is_delimiter

    def forbid(self, scores: Tensor, ids: Tensor) -> Tensor:
        """Put -inf in place of the scores [R, V] of what no label can begin with, where one begins behind texts [R, L].

        The end of a text is among it: no model is trained to end one, so its score means nothing.
        """
        is_beginning = ids[:, -1:] == self.delimiter if ids.shape[1] else scores.new_ones(len(ids), 1, dtype=torch.bool)
        return scores.masked_fill(is_beginning & self.no_beginning, -torch.inf)

    def split(self, ids: Sequence[int], log_probs: Sequence[float], most: int) -> list[Written]:
        """Cut a text at its delimiters, up to its end or so many labels; what no delimiter closed is not finished."""
        found: list[Written] = []
        start, stop = 0, next((place for place, token in enumerate(ids) if token in self.ends), len(ids))
        for place in range(stop):
            if ids[place] == self.delimiter and len(found) < most:
                found.append(Written(tuple(ids[start:place]), tuple(log_probs[start : place + 1]), True))
                start = place + 1
        if start < stop and len(found) < most:
            found.append(Written(tuple(ids[start:stop]), tuple(log_probs[start:stop]), False))
        return [label for label in found if label.ids]


@lru_cache(maxsize=4)
def _list_blank(tokenizer: LabelTokenizer) -> tuple[int, ...]:
    """List tokens of the file that leave no letter of a label: its ends, spaces, the delimiter, the unknown."""
    delimiter = tokenizer.decode([tokenizer.delimiter_id])
    return tuple(
        token
        for token in range(tokenizer.vocab_size)
        if not tokenizer.decode([token]).replace(delimiter, "").strip() or tokenizer.name(token) == _UNKNOWN
    )


class Prefix(NamedTuple):
    """Images and a prompt as a decoder reads them.

    Attributes:
        image_tokens: [B, S, D].
        embeddings: Of all positions, [B, P, D].
        mask: bool [1, 1, P, P], True where a position may see another.
        positions: int64 [1, P].
    """

    image_tokens: Tensor
    embeddings: Tensor
    mask: Tensor
    positions: Tensor


def lay_out(model: NextLabelModel, images: Tensor, tokenizer: LabelTokenizer, prompt: str) -> Prefix:
    """Put images [B, 3, H, W] and a prompt together, up to the position that predicts a label.

    Raises:
        ConfigError: the prompt does not fit, or its last word is not one token.
    """
    sequences = build_sequences([prompt], [()], tokenizer, model.text_context)
    ids = sequences.ids[:, : int(sequences.answers) + 1].to(images.device)
    image_tokens = model.prefix(images)
    text = model.decoder.embed(ids).expand(len(images), -1, -1)
    embeddings = torch.cat([image_tokens, text], dim=1)
    mask = prompt_mask(
        image_tokens.shape[1],
        ids.shape[1],
        bidirectional_image=model.label_cfg.bidirectional_image,
        device=images.device,
    )
    return Prefix(image_tokens, embeddings, mask, torch.arange(embeddings.shape[1], device=images.device)[None])


class Rows:
    """Rows of text behind images and a prompt; each position is computed once.

    Attributes:
        logits: What follows each row, [R, V], in fp32 at least.
        image_tokens: What the decoder is given of the images, [B, S, D].
    """

    def __init__(self, model: NextLabelModel, cache: Cache, logits: Tensor, image_tokens: Tensor, length: int) -> None:
        self._model, self._cache, self._prefix_length = model, cache, length
        self.logits, self.image_tokens = logits, image_tokens

    @classmethod
    def read(
        cls, model: NextLabelModel, images: Tensor, tokenizer: LabelTokenizer, prompt: str, steps: int
    ) -> tuple["Rows", int]:
        """Read images [B, 3, H, W] and a prompt, a row each.

        Returns:
            The rows, and how many tokens can be read behind them: ``steps``, or those that the context has room for.
        """
        decoder, prefix = model.decoder, lay_out(model, images, tokenizer, prompt)
        length = prefix.embeddings.shape[1]
        steps = min(steps, model.context_length - length)
        cache = decoder.make_cache(length + steps)
        hidden = decoder.run(prefix.embeddings, prefix.mask, prefix.positions, cache)
        return cls(model, cache, decoder.score(hidden[:, -1]), prefix.image_tokens, length), steps

    def repeat(self, times: int) -> "Rows":
        """Return rows of which each stands ``times`` times, one after the other."""
        logits = self.logits.repeat_interleave(times, dim=0)
        return Rows(self._model, self._cache.repeat(times), logits, self.image_tokens, self._prefix_length)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows, int64 [N]."""
        self._cache, self.logits = self._cache.select(rows), self.logits[rows]

    def write(self, tokens: Tensor, labels: Tensor | None = None) -> None:
        """Read the next token of each row, int64 [R].

        Args:
            tokens: The tokens.
            labels: int64 [R, L], the label that each token written so far belongs to, these included: a token sees
                those of its own label. None where there is one label only.
        """
        decoder = self._model.decoder
        mask = None
        if labels is not None and self._model.label_cfg.separate_labels:
            sees_prefix = labels.new_ones(len(labels), self._prefix_length, dtype=torch.bool)
            mask = torch.cat([sees_prefix, labels == labels[:, -1:]], dim=1)[:, None, None]
        position = torch.full((1, 1), self._cache.length, device=tokens.device)
        self.logits = decoder.score(decoder.run(decoder.embed(tokens[:, None]), mask, position, self._cache)[:, -1])
