import random

import numpy as np
import pytest
import torch

from open_clip.errors import ConfigError
from open_clip.transform import RandomResizedCrop, ResizeKeepRatio
from sample_images import make_image


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_crops_have_the_size_asked_for():
    image = make_image(90, 60)
    assert RandomResizedCrop(32)(image).size == (32, 32)
    assert RandomResizedCrop((20, 40))(image).size == (40, 20)


def test_size_is_height_and_width_even_for_one_number():
    assert RandomResizedCrop(32).size == (32, 32)


def test_the_same_generator_seed_gives_the_same_crop():
    crop, image = RandomResizedCrop(16), make_image(90, 60)
    first, again, other = (np.asarray(crop(image, _generator(seed))) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_generator_draws_what_the_global_one_would():
    image = make_image(90, 60)
    torch.manual_seed(5)
    expected = RandomResizedCrop.get_params(image, (0.1, 1.0), (0.75, 4 / 3))
    assert RandomResizedCrop.get_params(image, (0.1, 1.0), (0.75, 4 / 3), _generator(5)) == expected


def test_parts_keep_to_scale_ratio_and_image():
    image = make_image(200, 100)
    for seed in range(200):
        top, left, height, width = RandomResizedCrop.get_params(image, (0.2, 0.5), (0.5, 2.0), _generator(seed))
        assert 0 <= top <= 100 - height
        assert 0 <= left <= 200 - width
        assert 0.18 <= height * width / 20_000 <= 0.52
        assert 0.48 <= width / height <= 2.1


@pytest.mark.parametrize(
    "width, height, part", [(300, 3, (0, 148, 3, 4)), (3, 300, (148, 0, 4, 3)), (10, 10, (0, 0, 10, 10))]
)
def test_when_nothing_fits_the_middle_is_taken(width, height, part):
    # Twice the area of the image never fits.
    assert RandomResizedCrop.get_params(make_image(width, height), (2.0, 2.0), (3 / 4, 4 / 3), _generator()) == part


@pytest.mark.parametrize("options", [{"scale": (1.0, 0.5)}, {"scale": (-0.1, 1)}, {"ratio": (1.0,)}])
def test_a_range_that_makes_no_sense_is_named(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}=.* is not a range"):
        RandomResizedCrop(8, **options)


@pytest.mark.parametrize("longest, expected", [(0, (60, 30)), (1, (40, 20))])
def test_keep_ratio_covers_or_fits(longest, expected):
    assert ResizeKeepRatio((30, 40), longest=longest)(make_image(80, 40)).size == expected


def test_keep_ratio_keeps_a_pixel_of_an_extreme_image():
    assert ResizeKeepRatio(32, longest=1)(make_image(1000, 3)).size == (32, 1)


def test_keep_ratio_draws_nothing_by_default():
    before = random.getstate()
    ResizeKeepRatio(16)(make_image(20, 30))
    assert random.getstate() == before


def test_keep_ratio_can_vary_scale_and_aspect():
    vary = ResizeKeepRatio(50, random_scale_prob=1.0, random_aspect_prob=1.0)
    sizes = {vary(make_image(100, 100), _generator(seed)).size for seed in range(30)}
    assert len(sizes) > 15
    assert all(35 <= side <= 65 for size in sizes for side in size)
    assert vary(make_image(100, 100), _generator(1)).size == vary(make_image(100, 100), _generator(1)).size


def test_repr_shows_the_settings():
    assert repr(RandomResizedCrop(8, (0.9, 1.0), interpolation="bicubic")) == (
        "RandomResizedCrop(size=(8, 8), scale=(0.9, 1.0), ratio=(0.75, 1.3333), interpolation=bicubic)"
    )
    assert repr(ResizeKeepRatio(8)) == "ResizeKeepRatio(size=(8, 8), interpolation=bicubic, longest=0.000)"
