import numpy as np
import pytest
import torch

from open_clip.transform import Compose, ToUint8Tensor, image_transform, to_direct, to_uint8
from sample_pictures import make_picture

MODES = ("RGB", "L", "P", "RGBA", "CMYK", "1")
OPTIONS = [
    {"is_train": True},
    {"is_train": True, "image_size": (24, 40)},
    {"is_train": True, "aug_cfg": {"scale": (0.01, 0.5)}},
    {"is_train": True, "aug_cfg": {"color_jitter": (0.4, 0.4, 0.3, 0.1), "color_jitter_prob": 0.8}},
    {"is_train": True, "aug_cfg": {"gray_scale_prob": 0.5}},
    {"is_train": False},
    {"is_train": False, "interpolation": "bilinear"},
    {"is_train": False, "image_size": (24, 40)},
    {"is_train": False, "resize_mode": "longest", "fill_color": 117},
    {"is_train": False, "resize_mode": "squash"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_pixels_and_draws_are_those_of_the_transform(options, mode):
    transform = to_uint8(image_transform(**{"image_size": 32, **options}))
    direct = to_direct(transform)
    batch = np.zeros((2, 3, *direct.size), dtype=np.uint8)
    for seed, size in enumerate([(50, 30), (31, 77), (32, 32), (200, 9), (5, 4), (640, 480)]):
        picture = make_picture(*size, seed, mode)
        ours, theirs = (torch.Generator().manual_seed(seed) for _ in range(2))
        direct(picture, batch[1], ours)
        assert np.array_equal(batch[1], transform(picture, theirs).numpy()), size
        assert torch.equal(ours.get_state(), theirs.get_state())
    assert not batch[0].any()


@pytest.mark.parametrize("is_train", [True, False])
def test_pixels_of_an_array_are_those_of_the_picture(is_train):
    direct = to_direct(to_uint8(image_transform(32, is_train)))
    picture = make_picture(90, 61)
    from_picture, from_array = np.zeros((2, 3, 32, 32), dtype=np.uint8)
    direct(picture, from_picture, torch.Generator().manual_seed(0))
    direct(np.asarray(picture), from_array, torch.Generator().manual_seed(0))
    assert np.array_equal(from_picture, from_array)


def test_a_transform_that_is_not_known_step_by_step_has_no_direct_form():
    known = to_uint8(image_transform(32, True))
    assert to_direct(image_transform(32, True)) is None
    assert to_direct(lambda image: image) is None
    assert to_direct(Compose([ToUint8Tensor()])) is None
    assert to_direct(Compose([])) is None

    class Louder(Compose):
        def __call__(self, image, generator=None):
            return super().__call__(image, generator) * 2

    assert to_direct(Louder(known.transforms)) is None
