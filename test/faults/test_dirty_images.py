"""Image files as bad as they come: each is decoded whole or refused in one line, in bounded time and memory."""

import os
import resource
import struct
import time
import warnings
import zlib

import pytest
from PIL import Image

from image_sets import IMAGES_OF_EMOJI
from training.data import ImageError, ImageFile

pytestmark = pytest.mark.faults
IMAGE = IMAGES_OF_EMOJI[0]


def png_bytes(width, height, rows=b""):
    """A PNG that claims a size; nothing like that many pixels are in it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_torn_image_is_refused_in_one_line(tmp_path, kind, share):
    path = tmp_path / f"torn.{kind.lower()}"
    Image.open(IMAGE).save(path, kind)
    assert ImageFile(str(path)).open().size == Image.open(IMAGE).size
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError) as caught:
        ImageFile(str(path)).open()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("size", [(30_000, 30_000), (20_000, 12_000), (5001, 5000), (65_000, 65_000)])
def test_a_bomb_is_refused_from_its_header(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bytes(*size, rows=b"\0" * 1000))
    before = peak_bytes()
    with pytest.raises(ImageError, match="over the limit of 25,000,000"):
        ImageFile(str(path)).open()
    assert peak_bytes() - before < 50e6


def test_the_bomb_limit_is_a_value(tmp_path):
    with pytest.raises(ImageError, match="over the limit of 1,000"):
        ImageFile(IMAGE).open(max_pixels=1000)


def test_a_bomb_is_refused_with_warnings_as_errors(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bytes(12_000, 10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="over the limit"):
            ImageFile(str(path)).open()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_only_the_first_frame_is_read(tmp_path, kind):
    path = tmp_path / f"many.{kind.lower()}"
    frames = [Image.new("RGB", (40, 30), (level, 0, 0)) for level in range(250, 0, -5)]
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], lossless=True)
    image = ImageFile(str(path)).open().convert("RGB")
    assert image.size == (40, 30)
    assert abs(image.getpixel((5, 5))[0] - 250) < 4


def test_modes_are_left_to_the_transform(tmp_path):
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        path = tmp_path / "image.png"
        Image.new(mode, (20, 10)).save(path)
        assert ImageFile(str(path)).open().mode == mode
    Image.new("CMYK", (20, 10)).save(tmp_path / "image.jpg")
    assert ImageFile(str(tmp_path / "image.jpg")).open().mode == "CMYK"


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"<html>404</html>", "not an image in a format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image in a format"),
        (b"\xff\xd8\xff\xe0", "not an image|torn"),
        (b"\x89PNG\r\n\x1a\n", "not an image|torn"),
        (b"RIFF\xff\xff\xff\xffWEBPVP8 ", "not an image|torn"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, content, words):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=words):
        ImageFile(str(path)).open()


def test_a_fifo_or_device_in_place_of_a_image_never_blocks(tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    start = time.perf_counter()
    for path in (str(tmp_path / "fifo.jpg"), "/dev/zero", str(tmp_path), "nul\0byte", "\ud800"):
        with pytest.raises(ImageError):
            ImageFile(path).open()
    assert time.perf_counter() - start < 2
