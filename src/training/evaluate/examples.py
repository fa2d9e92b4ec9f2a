"""What a gallery of retrieval examples holds. Chooses no example."""

from dataclasses import dataclass
from typing import ClassVar


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
        intro: What is said above the examples, of retrieval where it is empty.
        images_title: Above the images, likewise.
        own_title: Of the right answers of an image, likewise.
    """

    images: tuple[Example, ...]
    captions: tuple[Example, ...]
    thumbnails: dict[str, Thumbnail]
    num_images: int
    num_texts: int
    intro: str = ""
    images_title: str = ""
    own_title: str = ""
    kind: ClassVar[str] = "gallery"
