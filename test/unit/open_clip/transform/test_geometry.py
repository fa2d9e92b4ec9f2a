from enum import Enum

import numpy as np
import pytest
import torch
from PIL import Image

from open_clip.errors import ConfigError
from open_clip.transform import CenterCrop, CenterCropOrPad, Resize, center_crop_or_pad
from open_clip.transform.geometry import to_filter
from open_clip.tuples import to_pair
from sample_images import make_image


class InterpolationMode(Enum):
    """Stands for torchvision's, which holds its names as values."""

    BILINEAR = "bilinear"


@pytest.mark.parametrize("size, pair", [(5, (5, 5)), ([5], (5, 5)), ((4, 6), (4, 6)), ([4, 6], (4, 6))])
def test_a_size_is_one_number_or_height_and_width(size, pair):
    assert to_pair(size) == pair


@pytest.mark.parametrize("size", [0, -1, (1, 2, 3), (), (5, 0)])
def test_anything_else_is_no_size(size):
    with pytest.raises(ConfigError, match="height and width"):
        to_pair(size)


@pytest.mark.parametrize("name", ["bilinear", Image.Resampling.BILINEAR, 2, InterpolationMode.BILINEAR])
def test_a_filter_is_named_in_any_of_the_usual_ways(name):
    assert to_filter(name) is Image.Resampling.BILINEAR


def test_an_unknown_filter_is_answered_with_the_known():
    with pytest.raises(ConfigError, match="bicubic"):
        to_filter("cubic-ish")


@pytest.mark.parametrize("size, expected", [(20, (40, 20)), ([20], (40, 20)), ((10, 30), (30, 10))])
def test_resize_takes_the_shorter_side_or_both(size, expected):
    assert Resize(size)(make_image(80, 40)).size == expected


def test_resize_rounds_the_longer_side_down():
    assert Resize(224)(make_image(500, 375)).size == (298, 224)
    assert Resize(224)(make_image(375, 500)).size == (224, 298)


def test_resize_returns_a_image_of_the_size_as_it_is():
    image = make_image(30, 20)
    assert Resize(20)(image) is image


def test_a_palette_image_is_resized_without_blending():
    image = make_image(40, 40, mode="P")
    resized = Resize(20, interpolation="bicubic")(image)
    assert resized.mode == "P"
    assert set(np.unique(resized)) <= set(np.unique(image))


def test_center_crop_cuts_the_middle():
    pixels = np.arange(5 * 6, dtype=np.uint8).reshape(5, 6)
    cropped = np.asarray(CenterCrop((3, 2))(Image.fromarray(pixels)))
    assert np.array_equal(cropped, pixels[1:4, 2:4])


def test_center_crop_pads_with_black_where_the_image_ends():
    white = Image.new("L", (2, 1), 255)
    assert np.asarray(CenterCrop(3)(white)).tolist() == [[0, 0, 0], [255, 255, 0], [0, 0, 0]]


def test_odd_padding_puts_the_smaller_half_left_and_on_top():
    padded = np.asarray(CenterCropOrPad((4, 4), fill=9)(Image.new("L", (1, 1), 255)))
    assert np.argwhere(padded == 255).tolist() == [[1, 1]]
    assert (padded == 9).sum() == 15


def test_one_side_can_be_cut_while_the_other_is_padded():
    assert center_crop_or_pad(make_image(50, 4), (10, 20)).size == (20, 10)


@pytest.mark.parametrize(
    "mode, fill, corner", [("RGB", 7, (7, 7, 7)), ("RGB", (1, 2, 3), (1, 2, 3)), ("RGBA", (5,), (5,) * 4)]
)
def test_fill_is_one_value_or_one_a_channel(mode, fill, corner):
    assert center_crop_or_pad(make_image(4, 4, mode=mode), 8, fill).getpixel((0, 0)) == corner


def test_a_fill_that_does_not_fit_the_image_is_explained():
    with pytest.raises(ConfigError, match="fill_color .* mode RGB 3"):
        center_crop_or_pad(make_image(4, 4), 8, (1, 2))


@pytest.mark.parametrize("transform", [Resize(8), CenterCrop(8), CenterCropOrPad(8)])
def test_something_else_than_a_pillow_image_is_refused(transform):
    with pytest.raises(TypeError, match="Pillow image is needed, not Tensor"):
        transform(torch.zeros(3, 8, 8))


def test_repr_shows_the_settings():
    assert repr(Resize(224, "bicubic")) == "Resize(size=224, interpolation=bicubic)"
    assert repr(CenterCrop(224)) == "CenterCrop(size=(224, 224))"
    assert repr(CenterCropOrPad((4, 5), 1)) == "CenterCropOrPad(size=(4, 5), fill=1)"
