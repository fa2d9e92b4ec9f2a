"""The fast decoder gives Pillow's pixels and leaves every doubt to Pillow."""

import io
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from sample_images import make_image
from training.data.decode import ImageBytes, ImageError, ImageFile
from training.data.fast_jpeg import load_jpeg_decoder

SIZES = [(1, 1), (7, 5), (16, 16), (33, 47), (250, 188), (500, 375)]


@pytest.fixture(scope="module")
def simplejpeg():
    module = pytest.importorskip("simplejpeg", reason="needs the extra `fast`")
    assert load_jpeg_decoder() is not None
    return module


def as_jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, options.pop("format", "JPEG"), **options)
    return file.getvalue()


def outcome(decode):
    """Return pixels and mode, or the reason of a refusal."""
    try:
        image = decode()
    except ImageError as error:
        return str(error)
    mode = "RGB" if isinstance(image, np.ndarray) else image.mode
    return mode, np.asarray(image).shape, np.asarray(image).tobytes()


def assert_as_pillow(content, max_pixels=25_000_000):
    expected = outcome(lambda: ImageBytes(content).open(max_pixels))
    assert outcome(lambda: ImageBytes(content).open_pixels(max_pixels)) == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411"])
def test_sound_images_take_the_fast_way_and_equal_pillow(simplejpeg, size, subsampling):
    for quality in (30, 90, 100):
        pixels = np.asarray(make_image(*size, quality))
        content = simplejpeg.encode_jpeg(
            np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling=subsampling
        )
        assert isinstance(ImageBytes(content).open_pixels(), np.ndarray)
        assert_as_pillow(content)


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"restart_marker_blocks": 2},
        {"restart_marker_rows": 1},
        {"optimize": True},
        {"keep_rgb": True},
        {"icc_profile": b"no profile" * 20},
        {"comment": b"words" * 50},
        {"format": "MPO"},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", SIZES)
def test_every_kind_of_jpeg_equals_pillow(simplejpeg, size, options):
    assert_as_pillow(as_jpeg(make_image(*size, 2), quality=85, **options))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_four_colour_images_keep_their_mode(simplejpeg, mode):
    content = as_jpeg(make_image(50, 40, 1, mode))
    assert ImageBytes(content).open_pixels().mode == mode
    assert_as_pillow(content)


@pytest.mark.parametrize("suffix", ["PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_other_formats_are_read_by_pillow(simplejpeg, suffix):
    content = as_jpeg(make_image(50, 40, 1), format=suffix)
    assert isinstance(ImageBytes(content).open_pixels(), Image.Image)
    assert_as_pillow(content)


def test_torn_and_dirty_files_are_judged_by_pillow(simplejpeg):
    content = as_jpeg(make_image(120, 90, 1))
    for cut in (1, 2, 3, 50, 300, len(content) // 2, len(content) - 100, len(content) - 3, len(content) - 2):
        assert_as_pillow(content[:cut])
    assert_as_pillow(content + b"words after the end")
    assert_as_pillow(b"\0\0" + content)
    assert_as_pillow(content[:300] + bytes(8) + content[308:])


def test_the_limit_on_pixels_holds_before_decoding(simplejpeg):
    content = as_jpeg(make_image(120, 90, 1))
    assert_as_pillow(content, max_pixels=120 * 90)
    assert_as_pillow(content, max_pixels=120 * 90 - 1)
    with pytest.raises(ImageError, match="over the limit of 100"):
        ImageBytes(content).open_pixels(max_pixels=100)
    with pytest.raises(ImageError, match="empty"):
        ImageBytes(b"").open_pixels()


def test_files_equal_bytes(simplejpeg, tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(as_jpeg(make_image(120, 90, 1)))
    assert np.array_equal(ImageFile(str(path)).open_pixels(), np.asarray(Image.open(path)))
    with pytest.raises(ImageError, match="not found"):
        ImageFile(str(tmp_path / "none.jpg")).open_pixels()


def test_threads_do_not_share_pixels(simplejpeg):
    contents = [as_jpeg(make_image(200, 150, seed)) for seed in range(8)]
    expected = [np.asarray(Image.open(io.BytesIO(content))) for content in contents]

    def is_sound(turn):
        place = turn % len(contents)
        return np.array_equal(ImageBytes(contents[place]).open_pixels(), expected[place])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(is_sound, range(200)))


def test_without_simplejpeg_pillow_decodes(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    load_jpeg_decoder.cache_clear()
    content = as_jpeg(make_image(50, 40))
    try:
        assert isinstance(ImageBytes(content).open_pixels(), Image.Image)
    finally:
        load_jpeg_decoder.cache_clear()
