"""The fast resize gives Pillow's pixels, all of them, or is not used."""

import random
import sys

import numpy as np
import pytest
from PIL import Image

from open_clip.transform.resample import Cut, load_resampler, resample_near
from sample_images import make_image

FILTERS = {True: Image.Resampling.BICUBIC, False: Image.Resampling.BILINEAR}


@pytest.fixture(scope="module")
def resample():
    pytest.importorskip("numba", reason="needs the extra `fast`")
    found = load_resampler()
    assert found is not None
    return found


def by_pillow(image, cut, height, width):
    part = image.crop((cut.left, cut.top, cut.left + cut.width, cut.top + cut.height))
    whole = part.resize((cut.to_width, cut.to_height), FILTERS[cut.is_cubic])
    row, column = cut.first_row, cut.first_column
    return np.asarray(whole)[row : row + height, column : column + width].transpose(2, 0, 1)


def random_cut(rng, image, longest):
    width, height = rng.randint(1, image.width), rng.randint(1, image.height)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    to_width, to_height = rng.randint(1, longest), rng.randint(1, longest)
    column, row = rng.randrange(to_width), rng.randrange(to_height)
    cut = Cut(left, top, width, height, to_width, to_height, column, row, rng.random() < 0.8)
    return cut, rng.randint(1, to_height - row), rng.randint(1, to_width - column)


@pytest.mark.parametrize("seed", range(8))
def test_any_part_size_and_window_equals_pillow(resample, seed):
    rng = random.Random(seed)
    image = make_image(rng.randint(1, 320), rng.randint(1, 320), seed)
    pixels = np.asarray(image)
    for _ in range(60):
        cut, height, width = random_cut(rng, image, 260)
        out = np.empty((3, height, width), dtype=np.uint8)
        resample(pixels, cut, out)
        assert np.array_equal(out, by_pillow(image, cut, height, width)), cut


@pytest.mark.parametrize("width, height", [(500, 375), (375, 500), (256, 256), (1, 700), (700, 1), (225, 300)])
def test_training_sized_crops_of_noise_equal_pillow(resample, width, height):
    # Noise reaches values beyond 0 and 255 between the passes, where clipping shows.
    pixels = np.random.default_rng(width).choice(np.array([0, 3, 128, 255], dtype=np.uint8), (height, width, 3))
    image = Image.fromarray(pixels)
    out = np.empty((3, 224, 224), dtype=np.uint8)
    cut = Cut(0, 0, width, height, 224, 224)
    resample(pixels, cut, out)
    assert np.array_equal(out, by_pillow(image, cut, 224, 224))


def test_the_choice_of_the_first_pass_is_pillows(resample):
    image = make_image(90, 90, 1)
    pixels = np.asarray(image)
    for width in range(30, 60, 3):
        for height in range(34, 90, 5):
            cut = Cut(0, 0, width, height, 40, 40)
            out = np.empty((3, 40, 40), dtype=np.uint8)
            resample(pixels, cut, out)
            assert np.array_equal(out, by_pillow(image, cut, 40, 40)), cut


def test_pixels_that_may_not_be_written_are_read(resample):
    pixels = np.asarray(make_image(20, 20))
    pixels.flags.writeable = False
    out = np.empty((3, 8, 8), dtype=np.uint8)
    resample(pixels, Cut(0, 0, 20, 20, 8, 8), out)
    assert out.any()


def test_without_numba_there_is_no_fast_resize(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    load_resampler.cache_clear()
    try:
        assert load_resampler() is None
    finally:
        load_resampler.cache_clear()


def test_numba_that_may_not_compile_is_not_used(monkeypatch):
    numba = pytest.importorskip("numba", reason="needs the extra `fast`")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    load_resampler.cache_clear()
    try:
        assert load_resampler() is None
    finally:
        load_resampler.cache_clear()


@pytest.mark.parametrize("is_cubic", [True, False])
def test_the_near_resize_is_a_level_or_two_off(is_cubic):
    image = make_image(250, 190, 3)
    differences = []
    rng = random.Random(0)
    for _ in range(20):
        width, height = rng.randint(60, 250), rng.randint(60, 190)
        cut = Cut(0, 0, width, height, 100, 90, 7, 5, is_cubic)
        out = np.empty((3, 64, 80), dtype=np.uint8)
        resample_near(np.asarray(image), cut, out)
        differences.append(np.abs(out.astype(int) - by_pillow(image, cut, 64, 80)))
    assert np.mean(differences) < 0.02
    assert np.max(differences) <= 3
