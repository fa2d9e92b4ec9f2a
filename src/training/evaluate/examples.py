"""What a gallery of retrieval examples holds, and its file ``gallery.json``. Chooses no example."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from open_clip.checked_json import read_json
from open_clip.errors import DataError
from open_clip.files import write_whole


@dataclass(frozen=True)
class Match:
    """One answer to a question.

    Attributes:
        content: A caption, or the key of an image in ``Gallery.thumbnails``.
        score: Cosine similarity.
        is_right: Whether it belongs to the question.
    """

    content: str
    score: float
    is_right: bool


@dataclass(frozen=True)
class Example:
    """One question with its best answers.

    Attributes:
        query: The key of an image, or a caption.
        own: The right answers: the image's captions, or the key of the caption's image.
        matches: Best first.
        is_right: Whether the first answer is right.
    """

    query: str
    own: tuple[str, ...]
    matches: tuple[Match, ...]
    is_right: bool


@dataclass(frozen=True)
class Thumbnail:
    """A small image to show: file name, JPEG data URI (None when it could not be read), size in pixels."""

    name: str
    uri: str | None
    width: int
    height: int


@dataclass(frozen=True)
class Gallery:
    """Examples of one evaluation; plain data that survives JSON.

    Attributes:
        images: Images with their best captions.
        captions: Captions with their best images.
        thumbnails: Every image that an example names, once.
        num_images: Unique images that were searched.
        num_texts: Captions that were searched.
    """

    images: tuple[Example, ...]
    captions: tuple[Example, ...]
    thumbnails: dict[str, Thumbnail]
    num_images: int
    num_texts: int


def save_gallery(gallery: Gallery, path: str | Path) -> None:
    """Write a gallery as JSON, whole or not at all."""
    write_whole(path, json.dumps(asdict(gallery)))


def load_gallery(path: str | Path) -> Gallery:
    """Read what ``save_gallery`` wrote.

    Raises:
        DataError: The file is damaged or no gallery.
    """
    try:
        loaded = read_json(path)
        # Older run folders call them pictures.
        loaded = {name.replace("pictures", "images"): value for name, value in loaded.items()}
        return Gallery(
            images=tuple(_load_example(one) for one in loaded["images"]),
            captions=tuple(_load_example(one) for one in loaded["captions"]),
            thumbnails={key: Thumbnail(**one) for key, one in loaded["thumbnails"].items()},
            num_images=loaded["num_images"],
            num_texts=loaded["num_texts"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no gallery ({error!r}); evaluate again to write a new one") from error


def _load_example(loaded: dict[str, object]) -> Example:
    matches = loaded["matches"]
    if not isinstance(matches, list):
        raise TypeError("matches is no list")
    own, query, is_right = loaded["own"], str(loaded["query"]), bool(loaded["is_right"])
    return Example(query, tuple(own) if isinstance(own, list) else (), tuple(Match(**one) for one in matches), is_right)
