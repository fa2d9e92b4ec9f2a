import random

import numpy as np
import pytest
import torch
from PIL import Image

from open_clip.errors import ConfigError
from open_clip.transform import ColorJitter, Grayscale, color_jitter, gray_scale, shift_hue
from sample_images import make_image


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("transform", [ColorJitter(0.5, 0.5, 0.5, 0.2, p=0.0), Grayscale(0.0)])
def test_probability_zero_leaves_the_image_alone(transform):
    image = make_image(8, 8)
    assert all(transform(image, _generator(seed)) is image for seed in range(20))


@pytest.mark.parametrize("transform", [ColorJitter(0.5, 0.5, 0.5, 0.2, p=0.5), Grayscale(0.5)])
def test_probability_is_the_share_of_changed_images(transform):
    image = make_image(4, 4)
    changed = sum(transform(image, _generator(seed)) is not image for seed in range(400))
    assert 150 < changed < 250


def test_without_a_generator_python_decides_whether_and_torch_how():
    jitter, image = ColorJitter(0.5, p=0.5), make_image(8, 8)
    results = []
    for _ in range(2):
        random.seed(1)
        torch.manual_seed(1)
        results.append(np.asarray(jitter(image)))
    assert np.array_equal(*results)


def test_with_a_generator_nothing_global_is_touched():
    before = random.getstate(), torch.get_rng_state()
    ColorJitter(0.5, 0.5, 0.5, 0.5, p=1.0)(make_image(8, 8), _generator())
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_brightness_scales_every_pixel():
    gray = Image.new("RGB", (2, 2), (100, 100, 100))
    assert ColorJitter(brightness=(0.5, 0.5), p=1.0)(gray).getpixel((0, 0)) == (50, 50, 50)


def test_zero_strength_changes_no_pixel():
    image = make_image(8, 8)
    assert np.array_equal(ColorJitter(p=1.0)(image), image)


def test_shift_hue_turns_the_colour_circle():
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    assert shift_hue(red, 1 / 3).getpixel((0, 0)) == (0, 255, 0)
    # The circle has 256 steps, so a third of it is not quite blue.
    assert shift_hue(red, -1 / 3).getpixel((0, 0)) == pytest.approx((0, 0, 255), abs=6)


def test_shift_hue_leaves_a_image_without_colour_alone():
    image = make_image(4, 4, mode="L")
    assert shift_hue(image, 0.3) is image


def test_gray_images_keep_three_equal_channels():
    pixels = np.asarray(Grayscale(1.0)(make_image(8, 8)))
    assert pixels.shape == (8, 8, 3)
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("options", [{"hue": 0.6}, {"brightness": -1}, {"contrast": (1.5, 0.5)}])
def test_a_strength_out_of_range_is_named(options):
    with pytest.raises(ConfigError, match=f"color_jitter {next(iter(options))}"):
        ColorJitter(**options)


@pytest.mark.parametrize("kind", [ColorJitter, Grayscale])
def test_a_probability_above_one_is_refused(kind):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        kind(p=1.5)


def test_upstreams_names_are_kept():
    assert color_jitter is ColorJitter
    assert gray_scale is Grayscale


def test_repr_shows_the_settings():
    assert repr(ColorJitter(0.5, p=1.0)) == (
        "ColorJitter(brightness=(0.5, 1.5), contrast=None, saturation=None, hue=None, p=1.0)"
    )
    assert repr(Grayscale(0.2)) == "Grayscale(p=0.2)"
