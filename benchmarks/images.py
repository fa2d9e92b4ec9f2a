"""JPEGs made up from a seed, with the spectrum, edges and sizes of photographs, and tars of them. Decodes nothing."""

import io
import os
import tarfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

# Width and height; a third of the larger ones stand upright, as in photo collections.
SIZES = {"500": (500, 375), "256": (256, 256)}
_FIELD = 1536
# Images made by one process.
_PART = 256


def make_images(size: str, count: int, seed: int) -> list[bytes]:
    """Make JPEG files of quality 88 to 92.

    Args:
        size: ``500`` (500 x 375 or upright) or ``256`` (256 x 256).
        count: How many.
        seed: The same seed gives the same files.
    """
    parts = [(size, min(_PART, count - first), seed, first) for first in range(0, count, _PART)]
    if len(parts) == 1:
        return _make_part(parts[0])
    with ProcessPoolExecutor(min(len(parts), len(os.sched_getaffinity(0)))) as pool:
        return [image for part in pool.map(_make_part, parts) for image in part]


def _make_part(part: tuple[str, int, int, int]) -> list[bytes]:
    size, count, seed, first = part
    rng = np.random.default_rng([seed, int(size), first])
    field = _make_field(rng)
    return [_make_image(field, rng, size) for _ in range(count)]


def read_images(folder: str) -> list[bytes]:
    """Read the JPEGs of a folder, in the order of their names."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        raise ValueError(f"{folder} holds no .jpg or .jpeg file")
    return [path.read_bytes() for path in paths]


def write_tars(folder: Path, images: Sequence[bytes], captions: Sequence[str], each: int) -> list[Path]:
    """Write images with their captions as shards of so many pairs; return the shards."""
    folder.mkdir(parents=True)
    shards = []
    for first in range(0, len(images), each):
        path = folder / f"{first // each:05d}.tar"
        with tarfile.open(path, "w") as archive:
            for number in range(first, min(first + each, len(images))):
                _add(archive, f"{number:09d}.jpg", images[number])
                _add(archive, f"{number:09d}.txt", captions[number].encode("utf-8"))
        shards.append(path)
    return shards


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _make_field(rng: np.random.Generator) -> np.ndarray:
    """Make one large square of noise whose amplitude falls as 1 / frequency, as in photographs; [H, W, 3] float."""
    spread = np.fft.fftfreq(_FIELD)[:, None] ** 2 + np.fft.rfftfreq(_FIELD)[None, :] ** 2
    amplitude = 1 / np.sqrt(np.maximum(spread, 1 / _FIELD**2))
    planes = []
    for _ in range(3):
        noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((_FIELD, _FIELD))) * amplitude, s=(_FIELD, _FIELD))
        planes.append(noise / noise.std())
    light, red, blue = planes
    # Colour varies less than light.
    return np.stack([light + 0.35 * red, light - 0.15 * red - 0.15 * blue, light + 0.35 * blue], axis=-1)


def _make_image(field: np.ndarray, rng: np.random.Generator, size: str) -> bytes:
    width, height = SIZES[size]
    if width != height and rng.random() < 1 / 3:
        width, height = height, width
    top, left = rng.integers(0, _FIELD - height), rng.integers(0, _FIELD - width)
    crop = field[top : top + height, left : left + width]
    grain = rng.standard_normal((height, width, 1)) * rng.uniform(1, 4)
    shades = crop[:: rng.choice((1, -1))] * rng.uniform(25, 55) + rng.uniform(90, 150) + grain
    image = Image.fromarray(shades.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 9)):
        x, y, w, h = rng.integers((0, 0, 8, 8), (width, height, width // 2, height // 2)).tolist()
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + w, y + h), outline=tuple(rng.integers(0, 256, 3).tolist()), width=int(rng.integers(1, 5)))
    held = io.BytesIO()
    image.save(held, "JPEG", quality=int(rng.integers(88, 93)))
    return held.getvalue()
