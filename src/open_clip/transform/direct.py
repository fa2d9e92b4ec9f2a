"""Run a transform from the pixels of a picture straight into a place in a batch, without Pillow in between.

Draws the random numbers of the transform it stands for, call for call, and gives its pixels. It knows no files.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from open_clip.transform.compose import Compose
from open_clip.transform.geometry import CenterCropOrPad, Resize, to_pair
from open_clip.transform.pixels import ToUint8Tensor
from open_clip.transform.random_geometry import RandomResizedCrop

Pixels = npt.NDArray[np.uint8]
Picture = Image.Image | Pixels
PixelMode = Literal["exact", "near"]


class DirectTransform:
    """What `to_direct` makes of a transform.

    Attributes:
        size: (height, width) of the result.
    """

    def __init__(self, transform: Compose, size: tuple[int, int]) -> None:
        self.size = size
        self._transform = transform

    def __call__(self, picture: Picture, out: Pixels, generator: torch.Generator | None = None) -> None:
        """Transform one picture.

        Args:
            picture: A Pillow picture, or the pixels [H, W, 3] of an RGB one; neither is changed.
            out: Where the pixels go, uint8 [3, height, width]; any view whose rows are contiguous.
            generator: As for `Compose`.
        """
        image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
        np.copyto(out, self._transform(image, generator).numpy())


def to_direct(transform: Any, pixels: PixelMode = "exact") -> DirectTransform | None:
    """Return the direct form of a transform that gives uint8 pixels; None where a step of it is not known here.

    Args:
        transform: What `to_uint8` gives.
        pixels: `exact` gives the transform's own pixels; `near` may differ from them by a level or two.
    """
    steps = list(transform.transforms) if type(transform) is Compose else []
    if not steps or type(steps[-1]) is not ToUint8Tensor:
        return None
    size = next((size for size in map(_size_after, reversed(steps)) if size is not None), None)
    return None if size is None else DirectTransform(transform, size)


def _size_after(step: Any) -> tuple[int, int] | None:
    """Return the (height, width) that every picture has after the step; None where it does not settle it."""
    if isinstance(step, (RandomResizedCrop, CenterCropOrPad)):
        return step.size
    is_fixed = isinstance(step, Resize) and not isinstance(step.size, int) and len(step.size) == 2
    return to_pair(step.size) if is_fixed else None
