"""The two recall definitions: their metric names, their words and their chance levels. Measures nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

RECALL_AT = (1, 5, 10)
DIRECTIONS = {"image_to_text": "Image to text", "text_to_image": "Text to image"}


@dataclass(frozen=True)
class RecallRow:
    """One direction under one definition; ``key`` takes the number K."""

    definition: str
    direction: str
    key: str
    meaning: str

    def values(self, metrics: Mapping[str, float]) -> list[float | None]:
        """Look up R@1, R@5 and R@10; None where the metrics do not have it."""
        return [metrics.get(self.key.format(k)) for k in RECALL_AT]


ONE_TO_ONE = "one to one"
ANY_CAPTION = "any caption"

RECALL_ROWS = (
    RecallRow(
        ONE_TO_ONE,
        "image_to_text",
        "image_to_text_R@{}",
        "Each row's image must find that row's own caption; the image's other captions count as wrong.",
    ),
    RecallRow(
        ONE_TO_ONE,
        "text_to_image",
        "text_to_image_R@{}",
        "Each caption must find its own row among all rows; rows of the same image tie and stand in their order.",
    ),
    RecallRow(
        ANY_CAPTION,
        "image_to_text",
        "text_retrieval_recall@{}",
        "Each unique image must find any one of its captions.",
    ),
    RecallRow(
        ANY_CAPTION,
        "text_to_image",
        "image_retrieval_recall@{}",
        "Each caption must find its image among the unique images.",
    ),
)


def chance_levels(row: RecallRow, num_images: float, num_texts: float) -> list[float]:
    """Work out what random scores would reach, R@1, R@5 and R@10.

    Captions are taken to be spread evenly over the images. One to one every row has exactly one of N places, in both
    directions, whatever rows show the same image: chance is K / N.
    """
    images, texts = max(1, round(num_images)), max(1, round(num_texts))
    if row.definition == ONE_TO_ONE:
        return [min(1.0, k / texts) for k in RECALL_AT]
    if row.direction == "text_to_image":
        return [min(1.0, k / images) for k in RECALL_AT]
    captions_each = max(1, round(texts / images))
    return [1.0 - math.comb(texts - captions_each, k) / math.comb(texts, k) if k < texts else 1.0 for k in RECALL_AT]
