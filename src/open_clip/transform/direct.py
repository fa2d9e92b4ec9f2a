"""Run a transform from the pixels of an image straight into a place in a batch, without Pillow in between.

Draws the random numbers of the transform it stands for, call for call, and gives its pixels. It knows no files.
"""

from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from open_clip.transform.augment import ColorJitter, Grayscale
from open_clip.transform.compose import Compose
from open_clip.transform.geometry import CenterCrop, CenterCropOrPad, Resize
from open_clip.transform.pixels import ConvertMode, ToUint8Tensor
from open_clip.transform.random_geometry import RandomResizedCrop, ResizeKeepRatio, draw_part
from open_clip.transform.resample import Cut, Pixels, Resample, load_resampler, resample_near
from open_clip.tuples import to_pair

ImageLike = Image.Image | Pixels
PixelMode = Literal["exact", "near"]

_CROPS = (CenterCrop, CenterCropOrPad)
_COLOR_STEPS = (ColorJitter, Grayscale)
_FILTERS = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)


class DirectTransform:
    """What `to_direct` makes of a transform.

    Attributes:
        size: (height, width) of the result.
    """

    def __init__(self, transform: Compose, size: tuple[int, int], pixels: PixelMode) -> None:
        self.size = size
        self._transform = transform
        self._pixels = pixels
        steps = [step for step in transform.transforms if type(step) is not ConvertMode]
        self._first: Any = steps[0]
        colors = [step for step in steps if type(step) in _COLOR_STEPS]
        self._colors = Compose([*colors, ToUint8Tensor()]) if colors else None
        self._find_resample()

    def __call__(self, image: ImageLike, out: Pixels, generator: torch.Generator | None = None) -> None:
        """Transform one image.

        Args:
            image: A Pillow image, or the pixels [H, W, 3] of an RGB one; neither is changed.
            out: Where the pixels go, uint8 [3, height, width], as NumPy sees a place of a batch.
            generator: As for `Compose`.

        Raises:
            ValueError: `out` is not of that shape and type.
        """
        if out.shape != (3, *self.size) or out.dtype != np.uint8:
            raise ValueError(f"The place of an image is uint8 {(3, *self.size)}, not {out.dtype} {out.shape}.")
        cut, resample = None, self._find_resample()
        is_rgb = isinstance(image, np.ndarray) or image.mode == "RGB"
        if resample is not None and is_rgb:
            cut = self._plan(image, generator)
        if resample is None or cut is None:
            opened = Image.fromarray(image) if isinstance(image, np.ndarray) else image
            np.copyto(out, self._transform(opened, generator).numpy())
            return
        is_final = self._colors is None and out.flags.c_contiguous
        planes = out if is_final else np.empty(out.shape, dtype=np.uint8)
        resample(np.asarray(image), cut, planes)
        if self._colors is not None:
            opened = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
            np.copyto(out, self._colors(opened, generator).numpy())
        elif not is_final:
            np.copyto(out, planes)

    def _find_resample(self) -> Resample | None:
        fast = load_resampler()
        return resample_near if fast is None and self._pixels == "near" else fast

    def _plan(self, image: ImageLike, generator: torch.Generator | None) -> Cut | None:
        """Say what is wanted of an image; None where that goes beyond the edges, before anything is drawn."""
        width, height = (image.shape[1], image.shape[0]) if isinstance(image, np.ndarray) else image.size
        first = self._first
        is_cubic = first.interpolation == Image.Resampling.BICUBIC
        if isinstance(first, RandomResizedCrop):
            top, left, part_h, part_w = draw_part(width, height, first.scale, first.ratio, generator)
            return Cut(left, top, part_w, part_h, self.size[1], self.size[0], is_cubic=is_cubic)
        full_h, full_w = first.sides(width, height)
        if full_h < self.size[0] or full_w < self.size[1]:
            return None
        row, column = round((full_h - self.size[0]) / 2), round((full_w - self.size[1]) / 2)
        return Cut(0, 0, width, height, full_w, full_h, column, row, is_cubic)


def to_direct(transform: object, pixels: PixelMode = "exact") -> DirectTransform | None:
    """Return the direct form of a transform that gives uint8 pixels; None where a step of it is not known here.

    Call it before worker processes are forked: what it compiles is then there already.

    Args:
        transform: What `to_uint8` gives.
        pixels: `exact` gives the transform's own pixels. `near` may differ from them by a level or two, to be faster
            where the fast exact resize is not installed.
    """
    # A subclass may do anything besides.
    if not isinstance(transform, Compose) or type(transform) is not Compose:
        return None
    steps = list(transform.transforms)
    if not steps or type(steps.pop()) is not ToUint8Tensor:
        return None
    geometry = [step for step in steps if type(step) is not ConvertMode]
    while geometry and type(geometry[-1]) in _COLOR_STEPS:
        geometry.pop()
    is_rgb = all(step.mode == "RGB" for step in steps if type(step) is ConvertMode)
    size = _size_of(geometry) if is_rgb else None
    return None if size is None else DirectTransform(transform, size, pixels)


def _size_of(geometry: list[Any]) -> tuple[int, int] | None:
    """Return the (height, width) to which the steps bring every image; None where they are not known to."""
    kinds = [type(step) for step in geometry]
    if not kinds or getattr(geometry[0], "interpolation", None) not in _FILTERS:
        return None
    if kinds == [RandomResizedCrop]:
        return to_pair(geometry[0].size)
    if kinds == [Resize] and not isinstance(geometry[0].size, int) and len(geometry[0].size) == 2:
        return to_pair(geometry[0].size)
    is_drawn = kinds[0] is ResizeKeepRatio and (geometry[0].random_scale_prob or geometry[0].random_aspect_prob)
    if len(kinds) == 2 and kinds[0] in (Resize, ResizeKeepRatio) and kinds[1] in _CROPS and not is_drawn:
        return to_pair(geometry[1].size)
    return None
