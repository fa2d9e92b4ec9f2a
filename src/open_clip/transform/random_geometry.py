"""Crops and resizes whose place and size are drawn at random, draw for draw as torchvision and timm.

Knows no tensors and no colours.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from PIL import Image

from open_clip.errors import ConfigError
from open_clip.transform.compose import RandomTransform, draw_chance, draw_uniform
from open_clip.transform.geometry import require_image, resize_image, to_filter
from open_clip.tuples import Size, to_pair

_TRIES = 10


def _require_range(name: str, bounds: Sequence[float]) -> tuple[float, float]:
    if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1]:
        raise ConfigError(f"{name}={bounds!r} is not a range: give the smallest and the largest value, none below 0.")
    return float(bounds[0]), float(bounds[1])


def draw_part(
    width: int, height: int, scale: Sequence[float], ratio: Sequence[float], generator: torch.Generator | None = None
) -> tuple[int, int, int, int]:
    """Draw a part of an image of that size, as `RandomResizedCrop.get_params` does, as (top, left, height, width)."""
    log_ratio = _log(tuple(ratio))
    for _ in range(_TRIES):
        area = width * height * draw_uniform(scale[0], scale[1], generator)
        # The exponential is taken in float32: in float64 some sides would round to another pixel.
        aspect = torch.exp(torch.empty(1).uniform_(*log_ratio, generator=generator)).item()
        crop_w, crop_h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_w <= width and 0 < crop_h <= height:
            top = int(torch.randint(0, height - crop_h + 1, (1,), generator=generator).item())
            left = int(torch.randint(0, width - crop_w + 1, (1,), generator=generator).item())
            return top, left, crop_h, crop_w
    crop_w, crop_h = width, height
    if width / height < min(ratio):
        crop_h = round(width / min(ratio))
    elif width / height > max(ratio):
        crop_w = round(height * max(ratio))
    return (height - crop_h) // 2, (width - crop_w) // 2, crop_h, crop_w


@lru_cache(maxsize=64)
def _log(ratio: tuple[float, ...]) -> list[float]:
    return torch.log(torch.tensor(ratio)).tolist()


class RandomResizedCrop(RandomTransform):
    """Cuts a random part of the image and resizes it to (height, width).

    Args:
        size: Side, or (height, width), of the result.
        scale: Smallest and largest share of the area to keep.
        ratio: Smallest and largest width / height of the part.
        interpolation: `bicubic`, `bilinear`, ...

    Raises:
        ConfigError: A size, range or interpolation makes no sense.
    """

    def __init__(
        self,
        size: Size,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: object = "bilinear",
    ) -> None:
        self.size = to_pair(size)
        self.scale = _require_range("scale", scale)
        self.ratio = _require_range("ratio", ratio)
        self.interpolation = to_filter(interpolation)

    @staticmethod
    def get_params(
        image: Image.Image,
        scale: Sequence[float],
        ratio: Sequence[float],
        generator: torch.Generator | None = None,
    ) -> tuple[int, int, int, int]:
        """Draw the part to cut as (top, left, height, width).

        When ten draws do not fit into the image, the largest middle part that keeps `ratio` is taken.

        Source: `RandomResizedCrop.get_params` of torchvision 0.29.
        """
        return draw_part(*image.size, scale, ratio, generator)

    def __call__(self, image: Image.Image, generator: torch.Generator | None = None) -> Image.Image:
        """Cut and resize one image."""
        top, left, height, width = self.get_params(require_image(image), self.scale, self.ratio, generator)
        # Pillow's resize(box=...) would save the crop, but reads pixels around it and so gives others.
        part = image.crop((left, top, left + width, top + height))
        return resize_image(part, *self.size, self.interpolation)

    def __repr__(self) -> str:
        scale, ratio = (tuple(round(bound, 4) for bound in bounds) for bounds in (self.scale, self.ratio))
        filter_name = self.interpolation.name.lower()
        return f"{type(self).__name__}(size={self.size}, scale={scale}, ratio={ratio}, interpolation={filter_name})"


class ResizeKeepRatio(RandomTransform):
    """Resizes so that the image covers the size (longest=0) or fits into it (longest=1), keeping its ratio.

    Scale and aspect can vary at random; by default they do not and nothing is drawn.

    Args:
        size: Side, or (height, width), to cover or fit.
        longest: 0 to cover, 1 to fit, between for a mean of both.
        interpolation: `bicubic`, `bilinear`, ...
        random_scale_prob: Chance that the scale varies.
        random_scale_range: Bounds of the factor on both sides.
        random_aspect_prob: Chance that the aspect varies.
        random_aspect_range: Bounds of the factor between the sides.

    Source: `ResizeKeepRatio` of timm 1.0.
    """

    def __init__(
        self,
        size: Size,
        longest: float = 0.0,
        interpolation: object = "bicubic",
        random_scale_prob: float = 0.0,
        random_scale_range: tuple[float, float] = (0.85, 1.05),
        random_aspect_prob: float = 0.0,
        random_aspect_range: tuple[float, float] = (0.9, 1.11),
    ) -> None:
        self.size = to_pair(size)
        self.interpolation = to_filter(interpolation)
        self.longest = float(longest)
        self.random_scale_prob, self.random_scale_range = random_scale_prob, random_scale_range
        self.random_aspect_prob, self.random_aspect_range = random_aspect_prob, random_aspect_range

    def __call__(self, image: Image.Image, generator: torch.Generator | None = None) -> Image.Image:
        """Resize one image."""
        return resize_image(image, *self.sides(*require_image(image).size, generator), self.interpolation)

    def sides(self, width: int, height: int, generator: torch.Generator | None = None) -> tuple[int, int]:
        """Return the (height, width) that an image of that size is resized to, drawing what varies."""
        ratio_h, ratio_w = height / self.size[0], width / self.size[1]
        ratio = max(ratio_h, ratio_w) * self.longest + min(ratio_h, ratio_w) * (1 - self.longest)
        factor_h, factor_w = self._draw_factors(generator)
        # An extreme ratio would round the short side down to no pixel at all, which Pillow refuses.
        return max(1, round(height * factor_h / ratio)), max(1, round(width * factor_w / ratio))

    def _draw_factors(self, generator: torch.Generator | None) -> tuple[float, float]:
        factor_h = factor_w = 1.0
        if self.random_scale_prob > 0 and draw_chance(generator) < self.random_scale_prob:
            low, high = self.random_scale_range
            factor_h = factor_w = low + (high - low) * draw_chance(generator)
        if self.random_aspect_prob > 0 and draw_chance(generator) < self.random_aspect_prob:
            low, high = self.random_aspect_range
            aspect = low + (high - low) * draw_chance(generator)
            factor_h, factor_w = factor_h / aspect, factor_w * aspect
        return factor_h, factor_w

    def __repr__(self) -> str:
        filter_name = self.interpolation.name.lower()
        return f"{type(self).__name__}(size={self.size}, interpolation={filter_name}, longest={self.longest:.3f})"
