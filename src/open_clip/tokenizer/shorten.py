"""Fit captions that are too long by dropping tokens, at random or by part of speech.

Captions that fit are left alone. Plain cutting at the end is the tokenizer's own and not here.
"""

import random
from collections.abc import Callable
from functools import partial
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from open_clip.errors import ConfigError, MissingDependency, suggest_nearest

EncodeFn = Callable[[str], list[int]]


def _to_rows(bodies: list[list[int]], context_length: int, sot_token_id: int, eot_token_id: int) -> Tensor:
    rows = torch.zeros(len(bodies), context_length, dtype=torch.long)
    for row, body in zip(rows, bodies, strict=True):
        row[: len(body) + 2] = torch.tensor([sot_token_id, *body, eot_token_id])
    return rows


def simple_mask_tokenize(
    texts: list[str], context_length: int, sot_token_id: int, eot_token_id: int, encode_fn: EncodeFn
) -> Tensor:
    """Keep one random contiguous block of each caption that is too long; int64 [n, context_length].

    The start is drawn from Python's `random`, once for each caption that is too long.
    """
    num_kept = context_length - 2
    bodies = [encode_fn(text) for text in texts]
    for place, body in enumerate(bodies):
        if len(body) > num_kept:
            start = random.randint(0, len(body) - num_kept)
            bodies[place] = body[start : start + num_kept]
    return _to_rows(bodies, context_length, sot_token_id, eot_token_id)


def random_mask_tokenize(
    texts: list[str],
    context_length: int,
    sot_token_id: int,
    eot_token_id: int,
    encode_fn: EncodeFn,
    shuffle: bool = False,
) -> Tensor:
    """Keep a random subset of the tokens of each caption that is too long; int64 [n, context_length].

    The subset keeps its order unless `shuffle`; it is drawn from torch's default generator.
    """
    num_kept = context_length - 2
    bodies = [encode_fn(text) for text in texts]
    for place, body in enumerate(bodies):
        if len(body) > num_kept:
            kept = torch.randperm(len(body))[:num_kept].tolist()
            bodies[place] = [body[i] for i in (kept if shuffle else sorted(kept))]
    return _to_rows(bodies, context_length, sot_token_id, eot_token_id)


def syntax_mask_tokenize(
    texts: list[str], context_length: int, sot_token_id: int, eot_token_id: int, encode_fn: EncodeFn
) -> Tensor:
    """Keep nouns first, then adjectives, then verbs, then the rest, in their order; int64 [n, context_length].

    Words of one rank are kept from the left. A caption whose kept words still give too many tokens is cut.

    Raises:
        MissingDependency: nltk or its data is not installed.
    """
    bodies = [encode_fn(_keep_telling_words(text, context_length - 2))[: context_length - 2] for text in texts]
    return _to_rows(bodies, context_length, sot_token_id, eot_token_id)


def _keep_telling_words(text: str, num_kept: int) -> str:
    words, tags = _tag_words(text)
    order = np.argsort([_part_of_speech_rank(tag) for tag in tags], kind="stable")
    return " ".join(words[i] for i in sorted(order[:num_kept]))


def _part_of_speech_rank(tag: str) -> int:
    return {"NN": 1, "JJ": 2, "VB": 3}.get(tag[:2], 4)


def _tag_words(text: str) -> tuple[list[str], list[str]]:
    try:
        nltk = import_module("nltk")
        words: list[str] = nltk.tokenize.word_tokenize(text)
        tagged: list[tuple[str, str]] = nltk.pos_tag(words)
    except ImportError as error:
        raise MissingDependency("reduction_mask='syntax' tags words with nltk: run `pip install nltk`.") from error
    except LookupError as error:
        raise MissingDependency(
            "reduction_mask='syntax' needs nltk's data: run"
            " `python -m nltk.downloader punkt punkt_tab averaged_perceptron_tagger averaged_perceptron_tagger_eng`."
        ) from error
    return words, [tag for _, tag in tagged]


_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "simple": simple_mask_tokenize,
    "random": random_mask_tokenize,
    "shuffle": partial(random_mask_tokenize, shuffle=True),
    "syntax": syntax_mask_tokenize,
}


def get_reduction_mask_fn(type: str) -> Callable[..., Tensor]:
    """Return the function that shortens captions in this way: `simple`, `random`, `shuffle` or `syntax`.

    Raises:
        ConfigError: The name is not known.
    """
    if type not in _REDUCTIONS:
        raise ConfigError(
            f"Reduction mask {type!r} is not known.{suggest_nearest(type, _REDUCTIONS)}"
            f" Choose one of {', '.join(_REDUCTIONS)}, or '' to cut at the end."
        )
    return _REDUCTIONS[type]
