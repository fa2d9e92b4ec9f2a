"""Change the colours of Pillow images at random, to the pixel as torchvision does.

Crops and resizes are in `random_geometry`.
"""

from collections.abc import Sequence

import torch
from PIL import Image, ImageEnhance

from open_clip.errors import ConfigError
from open_clip.transform.compose import RandomTransform, draw_chance, draw_uniform
from open_clip.transform.geometry import require_image

Bounds = tuple[float, float]

_COLORLESS_MODES = frozenset({"1", "L", "I", "F"})


def _require_probability(p: float) -> float:
    if not 0 <= p <= 1:
        raise ConfigError(f"Probability {p} of a colour change is not between 0 and 1.")
    return float(p)


def _to_bounds(name: str, value: float | Sequence[float], center: float, limits: Bounds) -> Bounds | None:
    """Return the bounds to draw a factor from, or None when the factor would change nothing."""
    if isinstance(value, (int, float)):
        low, high = center - float(value), center + float(value)
        low = max(low, limits[0]) if center == 1 else low
    else:
        low, high = (float(bound) for bound in value)
    if not limits[0] <= low <= high <= limits[1]:
        raise ConfigError(
            f"color_jitter {name}={value!r} is out of range: factors lie between {limits[0]}, {limits[1]}."
        )
    return None if low == high == center else (low, high)


def shift_hue(image: Image.Image, hue_factor: float) -> Image.Image:
    """Turn the hue by a share of the colour circle, -0.5 to 0.5; an image without colour comes back as it is."""
    if image.mode in _COLORLESS_MODES:
        return image
    hue, saturation, value = image.convert("HSV").split()
    shift = int(hue_factor * 255)
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert(image.mode)


class ColorJitter(RandomTransform):
    """Changes brightness, contrast, saturation and hue in random order, with probability `p`.

    Args:
        brightness: The factor is drawn from [1 - brightness, 1 + brightness], or from the two bounds given.
        contrast: Likewise.
        saturation: Likewise.
        hue: Drawn from [-hue, hue], at most 0.5, or from the two bounds given.
        p: Chance that an image is changed.

    Raises:
        ConfigError: A value is out of range.

    Source: `ColorJitter` of torchvision 0.29; probability 0.8 of open_clip_torch 3.3.0.
    """

    def __init__(
        self,
        brightness: float | Bounds = 0.0,
        contrast: float | Bounds = 0.0,
        saturation: float | Bounds = 0.0,
        hue: float | Bounds = 0.0,
        p: float = 0.8,
    ) -> None:
        any_factor = (0.0, float("inf"))
        self.p = _require_probability(p)
        self.brightness = _to_bounds("brightness", brightness, 1.0, any_factor)
        self.contrast = _to_bounds("contrast", contrast, 1.0, any_factor)
        self.saturation = _to_bounds("saturation", saturation, 1.0, any_factor)
        self.hue = _to_bounds("hue", hue, 0.0, (-0.5, 0.5))

    def __call__(self, image: Image.Image, generator: torch.Generator | None = None) -> Image.Image:
        """Change the colours of one image, or leave it alone."""
        if draw_chance(generator) >= self.p:
            return image
        image = require_image(image)
        order = torch.randperm(4, generator=generator).tolist()
        # All factors are drawn before the first is used, in this order, as torchvision does.
        bounds = (self.brightness, self.contrast, self.saturation, self.hue)
        factors = [None if bound is None else draw_uniform(*bound, generator) for bound in bounds]
        for step in order:
            factor = factors[step]
            if factor is not None:
                image = _STEPS[step](image, factor)
        return image

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(brightness={self.brightness}, contrast={self.contrast},"
            f" saturation={self.saturation}, hue={self.hue}, p={self.p})"
        )


def _enhance_brightness(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def _enhance_contrast(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


def _enhance_saturation(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Color(image).enhance(factor)


_STEPS = (_enhance_brightness, _enhance_contrast, _enhance_saturation, shift_hue)


class Grayscale(RandomTransform):
    """Turns an image grey with probability `p`; the result still has three channels.

    Source: `gray_scale` of open_clip_torch 3.3.0.
    """

    def __init__(self, p: float = 0.2) -> None:
        self.p = _require_probability(p)

    def __call__(self, image: Image.Image, generator: torch.Generator | None = None) -> Image.Image:
        """Turn one image grey, or leave it alone."""
        if draw_chance(generator) >= self.p:
            return image
        gray = require_image(image).convert("L")
        return Image.merge("RGB", (gray, gray, gray))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p})"
