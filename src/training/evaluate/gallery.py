"""A gallery of retrieval examples: images with their best captions, captions with their best images.

Picks and ranks examples and makes thumbnails; the file is ``parts.py``'s, the page the report room's.
"""

import base64
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from open_clip.errors import DataError, printable
from open_clip.transform.pixels import narrow_levels
from training.evaluate.examples import Example, Gallery, Match, Thumbnail
from training.evaluate.groups import group_images

THUMBNAIL_SIDE = 160
_THUMBNAIL_QUALITY = 80
# Questions ranked for each one shown, so that both right and wrong ones can be found.
_CANDIDATES_EACH = 8
# Right and wrong examples each get at least one place in so many.
_LEAST_SHARE = 3
# Letters of Persian and Indic scripts and parts of emoji are joined by these; nothing else hides behind them.
_JOINERS = re.compile("([\u200c\u200d])")


class _Answers(NamedTuple):
    query: int
    matches: list[int]
    scores: list[float]
    right: list[bool]


def build_gallery(
    image_features: Tensor,
    text_features: Tensor,
    image_ids: Tensor | Sequence[int] | np.ndarray,
    caption: Callable[[int], str],
    open_image: Callable[[int], tuple[str, Image.Image | None]],
    count: int = 12,
    top: int = 5,
) -> Gallery:
    """Choose examples spread evenly over the set and answer each with its best candidates.

    The choice depends on the features alone. Right and wrong examples come in about their natural proportion, but each
    kind gets a third of the places when the set has enough of it: read shares from the metrics, not from here.

    Args:
        image_features: [N, C] normalised; the first row of each image speaks for it.
        text_features: [N, C] normalised.
        image_ids: [N] equal for rows of the same image.
        caption: From a row to its text; asked for the few that are shown.
        open_image: From a row to its image's name and the image, None when it cannot be read.
        count: Examples in each direction.
        top: Answers an example shows.

    Raises:
        DataError: The three lists disagree in length.
    """
    lengths = [len(one) for one in (image_features, text_features, image_ids)]
    if len(set(lengths)) != 1:
        raise DataError(f"a gallery needs one image, text and id a row, got {lengths} of each")
    groups = group_images(image_ids)
    owner_of_text, every_image = groups.image_of, np.arange(len(groups.first_row))
    images = image_features.float()[torch.from_numpy(groups.first_row).to(image_features.device)]
    texts = text_features.float()
    by_image = _mix(_answer(images, texts, every_image, owner_of_text, count * _CANDIDATES_EACH, top), count)
    by_caption = _mix(_answer(texts, images, owner_of_text, every_image, count * _CANDIDATES_EACH, top), count)
    image_examples = [
        _example(one, str, caption, map(caption, np.flatnonzero(owner_of_text == one.query).tolist()))
        for one in by_image
    ]
    caption_examples = [_example(one, caption, str, [str(owner_of_text[one.query])]) for one in by_caption]
    shown = _named_images(image_examples, caption_examples)
    thumbnails = {key: make_thumbnail(*open_image(int(groups.first_row[int(key)]))) for key in shown}
    return Gallery(tuple(image_examples), tuple(caption_examples), thumbnails, len(images), len(texts))


def make_thumbnail(name: str, image: Image.Image | None, side: int = THUMBNAIL_SIDE) -> Thumbnail:
    """Shrink an image to at most ``side`` pixels and hold it as a data URI; one that could not be read has none."""
    if image is None:
        return Thumbnail(printable(name), None, side, side)
    small = (narrow_levels(image) if image.mode.startswith("I;16") else image).convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_THUMBNAIL_QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(printable(name), uri, *small.size)


def _answer(
    queries: Tensor,
    candidates: Tensor,
    query_owner: np.ndarray,
    candidate_owner: np.ndarray,
    limit: int,
    top: int,
) -> list[_Answers]:
    """Rank the candidates of at most ``limit`` questions spread evenly over all of them.

    Owners are image numbers: an answer is right when its owner is the question's.
    """
    asked = np.unique(np.linspace(0, len(queries) - 1, min(limit, len(queries))).round().astype(np.int64))
    scores = queries[torch.from_numpy(asked).to(queries.device)] @ candidates.T
    best = scores.topk(min(top, len(candidates)), dim=1)
    matches, values = best.indices.cpu().numpy(), best.values.cpu()
    right = candidate_owner[matches] == query_owner[asked][:, None]
    return [
        _Answers(int(query), matches[place].tolist(), values[place].tolist(), right[place].tolist())
        for place, query in enumerate(asked)
    ]


def _mix(answers: list[_Answers], count: int) -> list[_Answers]:
    """Keep ``count`` answered questions, evenly spread, with both right and wrong ones where there are some."""
    right = [one for one in answers if one.right[0]]
    wrong = [one for one in answers if not one.right[0]]
    # First the natural share within what both kinds are promised, then what there is of each.
    least = count // _LEAST_SHARE
    num_wrong = min(max(round(count * len(wrong) / max(1, len(answers))), least), count - least)
    num_wrong = max(min(num_wrong, len(wrong)), count - len(right))
    kept = _spread(wrong, num_wrong) + _spread(right, count - min(num_wrong, len(wrong)))
    return sorted(kept, key=lambda one: one.query)


def _spread(items: list[_Answers], count: int) -> list[_Answers]:
    if count >= len(items):
        return items
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, count).round()] if count > 0 else []


def _named_images(by_image: list[Example], by_caption: list[Example]) -> list[str]:
    """List the keys of all images that examples show, each once."""
    keys = {example.query for example in by_image}
    for example in by_caption:
        keys |= {*example.own, *(match.content for match in example.matches)}
    return sorted(keys, key=int)


def _example(
    answers: _Answers, query: Callable[[int], str], candidate: Callable[[int], str], own: Iterable[str]
) -> Example:
    """Put names in the place of indices."""
    matches = tuple(
        Match(_shown(candidate(match)), round(score, 4), is_right)
        for match, score, is_right in zip(answers.matches, answers.scores, answers.right, strict=True)
    )
    return Example(_shown(query(answers.query)), tuple(map(_shown, own)), matches, answers.right[0])


def _shown(text: str) -> str:
    """Put a caption on one line, without what steers a terminal or turns the direction of writing."""
    parts = _JOINERS.split(" ".join(text.split()))
    return "".join(part if _JOINERS.fullmatch(part) else printable(part) for part in parts)
