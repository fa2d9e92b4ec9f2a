"""Make images of every kind a data set may hold, with Pillow alone. Makes files only."""

from pathlib import Path

import numpy as np
from PIL import Image


def make_image(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Make an image of smooth colour with sharp edges and noise, so that every filter shows."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 90 * np.sin(x / (3 + i + seed % 5) + y / (7 - i)) for i in range(3)]
    pixels = np.stack(waves, axis=-1) + rng.normal(0, 20, (height, width, 3))
    pixels[height // 3 : height // 2, width // 4 : width // 2] = rng.integers(0, 256, 3)
    rgb = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if mode in {"RGBA", "LA", "PA"}:
        alpha = Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8))
        rgb.putalpha(alpha)
    if mode == "I;16":
        wide = rgb.convert("L").point(lambda level: level * 257, "I")
        return Image.fromarray(np.asarray(wide, dtype=np.uint16))
    return rgb if rgb.mode == mode else rgb.convert(mode)


def write_images(folder: Path) -> list[Path]:
    """Write one file for each shape and colour mode worth testing."""
    sizes = [(64, 64), (100, 75), (75, 100), (33, 217), (300, 7), (1, 1), (2, 50), (641, 479), (8, 8), (1000, 3)]
    files = []
    for place, (width, height) in enumerate(sizes):
        files.append(folder / f"rgb_{width}x{height}.png")
        make_image(width, height, place).save(files[-1])
    for mode, suffix in [
        ("1", "png"),
        ("L", "png"),
        ("LA", "png"),
        ("P", "png"),
        ("RGBA", "png"),
        ("I;16", "png"),
        ("CMYK", "jpg"),
        ("YCbCr", "jpg"),
        ("F", "tiff"),
        ("I", "tiff"),
    ]:
        for width, height in [(90, 61), (20, 45)]:
            files.append(folder / f"{mode.replace(';', '_')}_{width}x{height}.{suffix}")
            make_image(width, height, 3, mode).save(files[-1])
    for subsampling, (width, height) in enumerate([(120, 91), (250, 188), (97, 301)]):
        files.append(folder / f"rgb_{width}x{height}.jpg")
        make_image(width, height, 7 + subsampling).save(
            files[-1], subsampling=subsampling, progressive=subsampling == 1
        )
    turned = Image.Exif()
    turned[0x0112] = 6
    files.append(folder / "exif_turned.jpg")
    make_image(80, 50, 4).save(files[-1], exif=turned)
    see_through = make_image(60, 44, 5, "P")
    files.append(folder / "palette_transparent.gif")
    see_through.save(files[-1], transparency=3)
    return files
