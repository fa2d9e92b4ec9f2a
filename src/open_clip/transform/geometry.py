"""Resize, crop and pad Pillow images to the pixel as torchvision and open_clip_torch 3.3.0 do.

Knows no tensors and no colours. Sizes are (height, width), although Pillow says (width, height).
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from open_clip.errors import ConfigError
from open_clip.tuples import Size, to_pair

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def to_filter(interpolation: object) -> Image.Resampling:
    """Return Pillow's filter for a name, a Pillow filter or torchvision's InterpolationMode.

    Raises:
        ConfigError: The name is not known.
    """
    if isinstance(interpolation, int):
        return Image.Resampling(interpolation)
    name = getattr(interpolation, "value", interpolation)
    if name not in _FILTERS:
        raise ConfigError(f"Interpolation {name!r} is not known. Choose one of {', '.join(_FILTERS)}.")
    return _FILTERS[name]


def require_image(image: object) -> Image.Image:
    """Return the image as it is.

    Raises:
        TypeError: It is not a Pillow image.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(f"A Pillow image is needed, not {type(image).__name__}: use PIL.Image.open or fromarray.")
    return image


def resize_image(image: Image.Image, height: int, width: int, resample: Image.Resampling) -> Image.Image:
    """Resize with Pillow's antialiasing; an image that has the size already comes back as it is."""
    if image.size == (width, height):
        return image
    if image.mode in ("I;16B", "I;16L", "I;16N"):
        # Pillow resizes these byte by byte, to noise.
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    return image.resize((width, height), resample)


def center_crop_or_pad(image: Image.Image, output_size: Size, fill: int | Sequence[int] = 0) -> Image.Image:
    """Cut or pad each side evenly to the size; the left and top get the smaller half of an odd padding."""
    height, width = to_pair(output_size)
    missing_w, missing_h = max(width - image.width, 0), max(height - image.height, 0)
    if missing_w or missing_h:
        border = (missing_w // 2, missing_h // 2, (missing_w + 1) // 2, (missing_h + 1) // 2)
        image = _pad(image, border, fill)
        if image.size == (width, height):
            return image
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def _pad(image: Image.Image, border: tuple[int, int, int, int], fill: int | Sequence[int]) -> Image.Image:
    num_bands = len(image.getbands())
    colors = [fill] * num_bands if isinstance(fill, (int, float)) else list(fill) * (num_bands if len(fill) == 1 else 1)
    if len(colors) != num_bands:
        raise ConfigError(f"fill_color {fill!r} has {len(colors)} values, an image of mode {image.mode} {num_bands}.")
    if num_bands > 1:
        return ImageOps.expand(image, border, tuple(int(color) for color in colors))
    padded = ImageOps.expand(image, border, colors[0] if image.mode == "F" else int(colors[0]))
    palette = image.getpalette() if image.mode == "P" else None
    if palette is not None:
        padded.putpalette(palette)
    return padded


class Resize:
    """Resizes to (height, width), or the shorter side to one number, keeping the ratio."""

    def __init__(self, size: Size, interpolation: object = "bilinear") -> None:
        self.size = size if isinstance(size, int) else tuple(size)
        self.interpolation = to_filter(interpolation)
        to_pair(self.size)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize one image."""
        return resize_image(image, *self.sides(*require_image(image).size), self.interpolation)

    def sides(self, width: int, height: int) -> tuple[int, int]:
        """Return the (height, width) that an image of that size is resized to."""
        if not isinstance(self.size, int) and len(self.size) == 2:
            return self.size[0], self.size[1]
        short = self.size if isinstance(self.size, int) else self.size[0]
        # The product comes before the division: this order decides how the longer side is rounded.
        long = int(short * max(width, height) / min(width, height))
        return (long, short) if width <= height else (short, long)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, interpolation={self.interpolation.name.lower()})"


class CenterCropOrPad:
    """Cuts or pads each side evenly to (height, width)."""

    def __init__(self, size: Size, fill: int | Sequence[int] = 0) -> None:
        self.size = to_pair(size)
        self.fill = fill

    def __call__(self, image: Image.Image) -> Image.Image:
        """Cut or pad one image."""
        return center_crop_or_pad(require_image(image), self.size, self.fill)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, fill={self.fill})"


class CenterCrop(CenterCropOrPad):
    """Cuts the middle of the size (height, width); what is missing at the edges is black."""

    def __init__(self, size: Size) -> None:
        super().__init__(size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size})"
