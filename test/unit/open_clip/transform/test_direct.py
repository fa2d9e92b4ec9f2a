import pickle
import sys

import numpy as np
import pytest
import torch

from open_clip.transform import (
    ColorJitter,
    Compose,
    RandomResizedCrop,
    ToUint8Tensor,
    image_transform,
    to_direct,
    to_uint8,
)
from open_clip.transform.resample import load_resampler
from sample_images import make_image

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


@pytest.fixture(params=["with the fast resize", "with Pillow's"])
def resize(request, monkeypatch):
    """Run a test with the extra `fast` and as if it were not installed."""
    if request.param == "with Pillow's":
        monkeypatch.setitem(sys.modules, "numba", None)
    else:
        pytest.importorskip("numba", reason="needs the extra `fast`")
    load_resampler.cache_clear()
    yield
    load_resampler.cache_clear()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("resize")
def test_pixels_and_draws_are_those_of_the_transform(options, mode):
    transform = to_uint8(image_transform(**{"image_size": 32, **options}))
    direct = to_direct(transform)
    batch = np.zeros((2, 3, *direct.size), dtype=np.uint8)
    for seed, size in enumerate([(50, 30), (31, 77), (32, 32), (200, 9), (5, 4), (640, 480)]):
        image = make_image(*size, seed, mode)
        ours, theirs = (torch.Generator().manual_seed(seed) for _ in range(2))
        direct(image, batch[1], ours)
        assert np.array_equal(batch[1], transform(image, theirs).numpy()), size
        assert torch.equal(ours.get_state(), theirs.get_state())
    assert not batch[0].any()


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.usefixtures("resize")
def test_pixels_of_an_array_are_those_of_the_image(is_train):
    direct = to_direct(to_uint8(image_transform(32, is_train)))
    image = make_image(90, 61)
    from_image, from_array = np.zeros((2, 3, 32, 32), dtype=np.uint8)
    direct(image, from_image, torch.Generator().manual_seed(0))
    direct(np.asarray(image), from_array, torch.Generator().manual_seed(0))
    assert np.array_equal(from_image, from_array)


def test_a_transform_that_is_not_known_step_by_step_has_no_direct_form():
    known = to_uint8(image_transform(32, True))
    assert to_direct(image_transform(32, True)) is None
    assert to_direct(lambda image: image) is None
    assert to_direct(Compose([ToUint8Tensor()])) is None
    assert to_direct(Compose([])) is None
    assert to_direct(Compose([ColorJitter(), *known.transforms])) is None
    assert to_direct(Compose([RandomResizedCrop(8, interpolation="nearest"), ToUint8Tensor()])) is None
    assert to_direct(Compose([known.transforms[0], lambda image: image, ToUint8Tensor()])) is None

    class Louder(Compose):
        def __call__(self, image, generator=None):
            return super().__call__(image, generator) * 2

    assert to_direct(Louder(known.transforms)) is None


def test_the_global_generators_serve_where_none_is_given():
    transform = to_uint8(image_transform(32, True))
    image, out = make_image(90, 61), np.zeros((3, 32, 32), dtype=np.uint8)
    torch.manual_seed(3)
    to_direct(transform)(image, out)
    torch.manual_seed(3)
    assert np.array_equal(out, transform(image).numpy())


@pytest.mark.usefixtures("resize")
def test_a_place_need_not_be_contiguous_but_must_fit():
    direct = to_direct(to_uint8(image_transform(32, False)))
    image = make_image(90, 61)
    plain, last = np.zeros((3, 32, 32), dtype=np.uint8), np.zeros((32, 32, 3), dtype=np.uint8)
    direct(image, plain)
    direct(image, last.transpose(2, 0, 1))
    assert np.array_equal(plain.transpose(1, 2, 0), last)
    with pytest.raises(ValueError, match=r"uint8 \(3, 32, 32\), not uint8 \(3, 32, 31\)"):
        direct(image, plain[:, :, :31])
    with pytest.raises(ValueError, match="not float32"):
        direct(image, plain.astype(np.float32))


@pytest.mark.usefixtures("resize")
def test_near_pixels_are_a_level_or_two_off_and_as_random():
    transform = to_uint8(image_transform(64, True))
    near = to_direct(transform, "near")
    for seed in range(10):
        image, out = make_image(150, 120, seed), np.zeros((3, 64, 64), dtype=np.uint8)
        ours, theirs = (torch.Generator().manual_seed(seed) for _ in range(2))
        near(image, out, ours)
        difference = np.abs(out.astype(int) - transform(image, theirs).numpy())
        assert difference.mean() < 0.02
        assert difference.max() <= 3
        assert torch.equal(ours.get_state(), theirs.get_state())


def test_it_can_be_sent_to_another_process():
    direct = pickle.loads(pickle.dumps(to_direct(to_uint8(image_transform(32, False)))))
    out = np.zeros((3, 32, 32), dtype=np.uint8)
    direct(make_image(90, 61), out)
    assert out.any()
