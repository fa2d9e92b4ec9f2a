"""The field of images: one or several views of an image, written straight into the batch where that is possible."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import default_collate

from open_clip.errors import DataError
from open_clip.transform.direct import ImageLike, PixelMode, to_direct
from training.data.decode import DEFAULT_MAX_PIXELS
from training.data.fields import IMAGES, Field, Row
from training.data.order import field_seed
from training.data.quarantine import one_line
from training.data.seeding import seeded
from training.data.source import IMAGE

Transform = Callable[..., Any]


class ImageField(Field):
    """Views of one image, each by a transform of its own; the image is decoded once.

    In a batch one view is a tensor, uint8 [B, 3, H, W] where the transform gives that; several are a tuple of them.

    Args:
        transforms: one a view: from an image to a tensor; called with ``generator=`` where it takes one, otherwise with
            the global CPU generators seeded for this row and put back afterwards.
        name: of the field; ``images`` has one view.
        column: what it reads.
        max_pixels: limit on width x height of an image.
        pixels: ``near`` may differ from the transforms' pixels by a level or two, to be faster.
        is_one_crop: all views draw the same numbers, so that those which crop alike show the same part.
    """

    is_costly = True

    def __init__(
        self,
        *transforms: Transform,
        name: str = IMAGES,
        column: str = IMAGE,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        pixels: PixelMode = "exact",
        is_one_crop: bool = False,
    ) -> None:
        if not transforms or (name == IMAGES and len(transforms) > 1):
            raise ValueError(f"{len(transforms)} views of {name!r}: several go under a name of their own")
        self.name = name
        self.columns = self.image_columns = (column,)
        self._transforms = transforms
        self._takes_generator = [_takes_generator(transform) for transform in transforms]
        self._max_pixels = max_pixels
        self._is_one_crop = is_one_crop
        found = [to_direct(transform, pixels) for transform in transforms]
        self._direct = [direct for direct in found if direct is not None]
        # Images come decoded for one way or for the other: all views go the same.
        if len(self._direct) == len(found):
            self.shapes = tuple((3, *direct.size) for direct in self._direct)

    def read(self, row: Row) -> tuple[object, ...]:
        """Make the views."""
        image = row.image(self.columns[0]).open(self._max_pixels)
        return self._views(row, lambda view, seed: self._transform(view, image, seed))

    def collate(self, values: Sequence[tuple[object, ...]]) -> object:
        """Stack each view."""
        return self.gather([default_collate(list(view)) for view in zip(*values, strict=True)])

    def read_into(self, row: Row, memory: Sequence[Tensor]) -> None:
        """Write the views where they belong."""
        image: ImageLike = row.image(self.columns[0]).open_pixels(self._max_pixels)
        generator = torch.Generator()
        self._views(
            row,
            lambda view, seed: self._direct[view](image, memory[view].numpy(), generator.manual_seed(seed)),
        )

    def gather(self, memory: Sequence[Tensor]) -> object:
        """Give the one view, or all of them."""
        return memory[0] if len(memory) == 1 else tuple(memory)

    def _views(self, row: Row, make: Callable[[int, int], object]) -> tuple[object, ...]:
        # An image that a transform cannot take is one bad row; a transform that takes none starves the batch.
        try:
            return tuple(make(view, self._seed(row, view)) for view in range(len(self._transforms)))
        except Exception as error:
            raise DataError(f"transform failed: {one_line(error)}") from error

    def _seed(self, row: Row, view: int) -> int:
        return row.seed if view == 0 or self._is_one_crop else field_seed(row.seed, f"view {view}")

    def _transform(self, view: int, image: Image, seed: int) -> object:
        transform = self._transforms[view]
        if self._takes_generator[view]:
            return transform(image, generator=torch.Generator().manual_seed(seed))
        with seeded(seed):
            return transform(image)


def _takes_generator(transform: Transform) -> bool:
    try:
        return "generator" in inspect.signature(transform).parameters
    except (TypeError, ValueError):
        return False
