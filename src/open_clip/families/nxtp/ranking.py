"""The order of an image's labels, and what is said of each. Writing them is ``decoding.py``'s job.

``prob``: the probability of a label with the delimiter that closes it. ``ppl``: perplexity, exp(-mean log probability
of its tokens), lowest first. ``sim``: mean distance between its tokens and the image's, lowest first. ``clip``: how
well it fits the image for a CLIP model. ``none``: as they were written.
Shapes: B images, N labels of an image, S image tokens, T tokens of a label, D width, V vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from open_clip.errors import ConfigError
from open_clip.families.nxtp.rows import Written
from open_clip.families.nxtp.tokenizer import LabelTokenizer
from open_clip.protocols import TwoEncoders

RANKINGS = ("prob", "ppl", "sim", "clip", "none")
_LOWEST_FIRST = ("ppl", "sim")


class TokenProb(NamedTuple):
    """A token as the tokenizer shows it, and its probability behind all before it."""

    token: str
    prob: float


class Label(NamedTuple):
    """A label of an image.

    Attributes:
        text: The label.
        prob: Product of its tokens' probabilities, of the delimiter's too; of all ways in which one-shot wrote it.
        token_probs: Each token's, in the likeliest of these ways.
        is_finished: Whether the delimiter closed it; if not, ``prob`` is that of a beginning.
        score: What it is ranked by; ``prob`` for the ranking ``none``.
    """

    text: str
    prob: float
    token_probs: tuple[TokenProb, ...]
    is_finished: bool
    score: float


class ClipJudge(NamedTuple):
    """A CLIP model that is asked how well labels fit an image; it sees the images that labels are written for.

    Attributes:
        model: Takes images of the same size and preparation.
        tokenize: Turns texts into its ids [N, L].
    """

    model: TwoEncoders
    tokenize: Callable[[list[str]], Tensor]


def rank_labels(
    written: Sequence[Sequence[Written]],
    tokenizer: LabelTokenizer,
    ranking: str,
    *,
    add_up: bool,
    image_tokens: Tensor,
    embeddings: Tensor,
    images: Tensor,
    clip: ClipJudge | None,
) -> list[list[Label]]:
    """Join equal labels of each image and order them; labels that are not finished stand last.

    Args:
        written: What was written for each image, in its order.
        tokenizer: Makes texts of tokens.
        ranking: One of ``RANKINGS``.
        add_up: Add up the probabilities of equal labels: they were written from one prompt, and only one of the ways
            can be gone. Labels that were written one after the other keep that of the likeliest.
        image_tokens: What the decoder was given of the images, [B, S, D]; for ``sim``.
        embeddings: The decoder's table of tokens, [V, D]; for ``sim``.
        images: [B, 3, H, W], for ``clip``.
        clip: For ``clip``.
    """
    ranked = []
    for image, own in enumerate(written):
        joined = _join(own, tokenizer, add_up)
        if ranking == "ppl":
            scores = [math.exp(-sum(way.log_probs) / len(way.log_probs)) for _, _, way in joined]
        elif ranking == "sim":
            scores = [_distance(embeddings[list(way.ids)], image_tokens[image]) for _, _, way in joined]
        elif ranking == "clip" and clip is not None and joined:
            scores = ask_clip(clip, images[image : image + 1], [text for text, _, _ in joined])
        else:
            scores = [prob for _, prob, _ in joined]
        labels = [_describe(one, score, tokenizer) for one, score in zip(joined, scores, strict=True)]
        ranked.append(_order(labels, ranking))
    return ranked


# A text, its probability, and the likeliest way in which it was written.
_Joined = tuple[str, float, Written]


def _join(written: Sequence[Written], tokenizer: LabelTokenizer, add_up: bool) -> list[_Joined]:
    """Join labels of one text, in the order in which they come first; a beginning is none of the finished ones."""
    delimiter = tokenizer.decode([tokenizer.delimiter_id])
    ways: dict[tuple[str, bool], list[Written]] = {}
    for one in written:
        text = tokenizer.decode(one.ids).strip(f"{delimiter} ")
        if text:
            ways.setdefault((text, one.is_finished), []).append(one)
    joined = []
    for (text, _), found in ways.items():
        probs = [math.exp(sum(way.log_probs)) for way in found]
        likeliest = found[probs.index(max(probs))]
        joined.append((text, sum(probs) if add_up else max(probs), likeliest))
    return joined


def _describe(joined: _Joined, score: float, tokenizer: LabelTokenizer) -> Label:
    text, prob, way = joined
    ids = (*way.ids, tokenizer.delimiter_id) if way.is_finished else way.ids
    shown = zip(ids, way.log_probs, strict=True)
    token_probs = tuple(TokenProb(tokenizer.name(token), math.exp(log_prob)) for token, log_prob in shown)
    return Label(text, prob, token_probs, way.is_finished, score)


def _order(labels: list[Label], ranking: str) -> list[Label]:
    """Sort the labels of an image; equal ones keep their order."""
    if ranking == "none":
        return sorted(labels, key=lambda label: not label.is_finished)
    sign = 1.0 if ranking in _LOWEST_FIRST else -1.0
    return sorted(labels, key=lambda label: (not label.is_finished, sign * label.score))


def _distance(tokens: Tensor, image_tokens: Tensor) -> float:
    """Compute the mean over all pairs of half the distance of unit vectors [T, D] and [S, D], from 0 to 1."""
    wide = torch.promote_types(torch.promote_types(tokens.dtype, image_tokens.dtype), torch.float32)
    one, other = (F.normalize(x.to(wide), dim=-1) for x in (tokens, image_tokens))
    cosines = one @ other.mT
    return float(((2.0 - 2.0 * cosines).clamp(min=0).sqrt() / 2.0).mean())


def ask_clip(clip: ClipJudge, image: Tensor, texts: list[str]) -> list[float]:
    """Ask how likely each text belongs to an image [1, 3, H, W], among these texts.

    Raises:
        ConfigError: the model has no temperature.
    """
    scale = getattr(clip.model, "logit_scale", None)
    if not isinstance(scale, Tensor):
        raise ConfigError("decoding: the model that judges labels has no logit_scale; give a CLIP model.")
    feature = clip.model.encode_image(image, normalize=True)
    features = clip.model.encode_text(clip.tokenize(texts).to(image.device), normalize=True)
    scores = (scale.exp() * features @ feature[0]).to(torch.promote_types(features.dtype, torch.float32))
    listed: list[float] = scores.softmax(dim=0).tolist()
    return listed
