"""What a recipe makes the fields of its batch with; holds settings of the run and opens nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from open_clip.transform.direct import PixelMode
from training.data.decode import DEFAULT_MAX_PIXELS
from training.data.fields import IMAGES, TEXTS, TextField, Tokenizer
from training.data.images import ImageField, Transform
from training.data.source import IMAGE, TEXT
from training.data.texts import TextPlanner
from training.data.values import ArrayField, LabelField, NumberField


@dataclass(frozen=True)
class FieldKit:
    """Makes fields as the flags and the model of a run want them.

    Attributes:
        role: ``train`` or ``val``; a recipe may ask less of rows that are only evaluated.
        transform: from an image to what the model sees, for this role; gives uint8 where the device normalises.
        make_tokenizer: gives the model's tokenizer, which a recipe without texts does not need.
        make_planner: gives what decides how texts are computed; what it gives may be None, to leave that open.
        max_pixels: limit on width x height of an image.
        pixels: ``near`` where the transform's pixels may be off by a level or two, to be faster.
    """

    role: str
    transform: Transform
    make_tokenizer: Callable[[], Tokenizer]
    make_planner: Callable[[], TextPlanner | None] = lambda: None
    max_pixels: int = DEFAULT_MAX_PIXELS
    pixels: PixelMode = "exact"

    @property
    def is_train(self) -> bool:
        """Whether the rows are trained on."""
        return self.role == "train"

    def image(
        self, *transforms: Transform, name: str = IMAGES, column: str = IMAGE, is_one_crop: bool = False
    ) -> ImageField:
        """Make a field of images, by the run's own transform where none is given; see `ImageField`."""
        return ImageField(
            *(transforms or (self.transform,)),
            name=name,
            column=column,
            max_pixels=self.max_pixels,
            pixels=self.pixels,
            is_one_crop=is_one_crop,
        )

    def text(self, column: str = TEXT, name: str = TEXTS) -> TextField:
        """Make a field of texts for the model's text tower."""
        return TextField(self.make_tokenizer(), name, column, self.make_planner())

    def label(
        self,
        column: str = "label",
        name: str = "labels",
        classes: Sequence[str] = (),
        num_classes: int | None = None,
    ) -> LabelField:
        """Make a field of class numbers; see `LabelField`."""
        return LabelField(name, column, classes, num_classes)

    def numbers(self, *columns: str, name: str) -> NumberField:
        """Make a field of one number or several, float32 [B] or [B, N]."""
        return NumberField(name, columns)

    def arrays(
        self,
        column: str,
        shape: Sequence[int],
        name: str,
        key: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> ArrayField:
        """Make a field of arrays of one shape, [B, *shape]; see `ArrayField`."""
        return ArrayField(name, column, shape, key, dtype)
