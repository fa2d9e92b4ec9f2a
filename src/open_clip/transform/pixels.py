"""From Pillow pixels to tensors: uint8 or [0, 1] floats, normalised one by one or by the batch on a device.

Changes no pixel positions.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from open_clip.errors import ConfigError, DataError
from open_clip.transform.compose import Compose, Step
from open_clip.transform.geometry import require_image
from open_clip.transform.host_memory import Recycler

Channels = tuple[float, ...]

# From here on torch would ask the system for memory anew for every batch.
_MANY = 1 << 20
# The batch in use and the one before it.
_NORMALIZED = Recycler(2)
# Levels that 8 bits have, and as far again as half of them for what a resize adds.
_BYTE_LEVELS = (-128, 383)
_WIDE_DTYPES = {"I": np.int32, "I;16": np.int16, "F": np.float32}


def _to_channels_first(image: object) -> Tensor:
    """Return an image or an array [H, W] or [H, W, C] as a tensor [C, H, W] that shares no memory with it."""
    if isinstance(image, np.ndarray):
        pixels = image
    else:
        image = require_image(image)
        pixels = np.asarray(image, dtype=_WIDE_DTYPES.get(image.mode, np.uint8))
        pixels = pixels * np.uint8(255) if image.mode == "1" else pixels
    if pixels.ndim not in (2, 3):
        raise TypeError(f"An array of pixels has 2 or 3 dimensions, not {pixels.ndim}: pass one image at a time.")
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy(order="C"))


def narrow_levels(image: Image.Image) -> Image.Image:
    """Bring a grey image of more than 8 bits to 8; any other comes back as it is.

    Pillow's own conversion cuts levels off at 255, which turns 16 bits white and floats of [0, 1] black.

    Raises:
        DataError: the levels of a 32-bit image are not those of 8 bits, so that their range is not known.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        levels = np.asarray(image)
        low, high = float(levels.min()), float(levels.max())
        # A resize goes beyond the levels at sharp edges; as floats, levels up to 1 stand for white as often as not.
        is_known = _BYTE_LEVELS[0] <= low <= high <= _BYTE_LEVELS[1] and (image.mode == "I" or high == 0 or high > 2)
        if not is_known:
            raise DataError(
                f"image of mode {image.mode} has levels from {low:g} to {high:g}, not 0 to 255:"
                " save it with 8 or 16 bits a channel"
            )
    return image


class ConvertMode:
    """Turns an image into another Pillow mode, RGB by default; arrays, tensors and images of the mode pass.

    Grey images of more than 8 bits go through `narrow_levels`.
    """

    def __init__(self, mode: str = "RGB") -> None:
        self.mode = mode

    def __call__(self, image: Any) -> Any:
        """Convert one image."""
        if isinstance(image, (np.ndarray, Tensor)):
            return image
        if require_image(image).mode == self.mode:
            return image
        return (image if self.mode in _WIDE_DTYPES else narrow_levels(image)).convert(self.mode)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mode={self.mode})"


class ToTensor:
    """Turns an image or array into a float tensor [C, H, W] in [0, 1]; a tensor passes unchanged.

    Pixels wider than 8 bits keep their type and scale, as in torchvision.
    """

    def __call__(self, image: object) -> Tensor:
        """Convert one image."""
        if isinstance(image, Tensor):
            return image
        pixels = _to_channels_first(image)
        return pixels.to(torch.get_default_dtype()).div_(255) if pixels.dtype == torch.uint8 else pixels

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ToUint8Tensor:
    """Turns an image or array into a uint8 tensor [C, H, W]; a tensor passes unchanged."""

    def __call__(self, image: object) -> Tensor:
        """Convert one image."""
        return image if isinstance(image, Tensor) else _to_channels_first(image)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Normalize:
    """Subtracts the mean and divides by the standard deviation of each channel of a float tensor [..., C, H, W].

    Raises:
        ConfigError: A standard deviation is zero.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean: Channels = tuple(float(value) for value in mean)
        self.std: Channels = tuple(float(value) for value in std)
        if 0 in self.std:
            raise ConfigError(f"std={self.std} holds a zero, which cannot divide a channel: check image_std.")

    def __call__(self, image: Tensor) -> Tensor:
        """Normalise one image."""
        if not isinstance(image, Tensor) or not image.is_floating_point():
            raise TypeError(f"Normalize needs a float tensor, not {getattr(image, 'dtype', type(image).__name__)}.")
        mean, std = (_constants(values, image.dtype, image.device) for values in (self.mean, self.std))
        return image.sub(mean).div_(std)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mean={self.mean}, std={self.std})"


@lru_cache(maxsize=64)
def _constants(values: Channels, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Keep [C, 1, 1] constants on the device: copying them there for each batch would wait for the device."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1)


def normalize_images(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turn uint8 images [B, C, H, W] into normalised float32 on the device they are on.

    The result is that of `ToTensor` and `Normalize`, bit for bit. Float images pass unchanged: they are taken to be
    normalised already.
    """
    if images.is_floating_point():
        return images
    # Divided by a tensor, not a number: some devices would multiply by the rounded reciprocal of a number.
    scale, mean_, std_ = (
        _constants(tuple(map(float, values)), torch.float32, images.device) for values in ((255.0,), mean, std)
    )
    if not images.is_cpu or images.dim() != 4 or images.numel() < _MANY or torch.compiler.is_compiling():
        return images.to(torch.float32).div_(scale).sub_(mean_).div_(std_)
    normalized = _NORMALIZED.empty(images.shape, np.float32)
    # One image after the other: each step then finds what the last one wrote in the cache.
    for place, image in zip(normalized, images, strict=True):
        place.copy_(image).div_(scale).sub_(mean_).div_(std_)
    return normalized


def _split_ending(transform: Compose) -> tuple[list[Step], Normalize]:
    *rest, normalize = getattr(transform, "transforms", None) or [None]
    if not rest or not isinstance(rest[-1], ToTensor) or not isinstance(normalize, Normalize):
        raise ConfigError(
            "The image transform does not end in open_clip.transform's ToTensor and Normalize, so its pixels cannot be"
            f" kept as uint8: use it as it is, or build one with image_transform. It is:\n{transform!r:.600}"
        )
    return rest[:-1], normalize


def to_uint8(transform: Compose) -> Compose:
    """Return the transform without its last two steps, giving uint8 [3, H, W] of the same pixels.

    `normalize_images` does the rest for a whole batch, on the device, after a copy of a quarter of the bytes.

    Raises:
        ConfigError: The transform does not end in `ToTensor` and `Normalize`.
    """
    rest, _ = _split_ending(transform)
    return Compose([*rest, ToUint8Tensor()])


def normalization_of(transform: Compose) -> tuple[Channels, Channels]:
    """Return mean and standard deviation of the transform's last step.

    Raises:
        ConfigError: The transform does not end in `ToTensor` and `Normalize`.
    """
    _, normalize = _split_ending(transform)
    return normalize.mean, normalize.std
