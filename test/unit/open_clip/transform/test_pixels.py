import numpy as np
import pytest
import torch
from PIL import Image

from open_clip.errors import ConfigError, DataError
from open_clip.transform import (
    Compose,
    ConvertMode,
    MaybeConvertMode,
    MaybeToTensor,
    Normalize,
    Resize,
    ToTensor,
    ToUint8Tensor,
    image_transform,
    normalization_of,
    normalize_images,
    to_uint8,
)
from open_clip.transform.pixels import _MANY
from sample_images import make_image

RAMP = np.linspace(0, 65535, 48 * 40).reshape(40, 48)
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def test_to_tensor_puts_channels_first_and_scales_to_one():
    tensor = ToTensor()(Image.new("RGB", (3, 2), (0, 51, 255)))
    assert tensor.shape == (3, 2, 3)
    assert tensor.dtype == torch.float32
    assert tensor[:, 0, 0].tolist() == pytest.approx([0, 0.2, 1])
    assert tensor.is_contiguous()


def test_to_uint8_tensor_keeps_the_bytes():
    image = make_image(5, 4)
    tensor = ToUint8Tensor()(image)
    assert tensor.dtype == torch.uint8
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), np.asarray(image))
    tensor.zero_()
    assert np.asarray(image).any()


@pytest.mark.parametrize(
    "mode, dtype, channels",
    [("L", torch.float32, 1), ("RGBA", torch.float32, 4), ("I", torch.int32, 1), ("F", torch.float32, 1)],
)
def test_other_modes_keep_their_channels_and_wide_ones_their_type(mode, dtype, channels):
    tensor = ToTensor()(make_image(5, 4, mode=mode))
    assert (tensor.dtype, tensor.shape) == (dtype, (channels, 4, 5))


def test_one_bit_images_are_black_and_white():
    assert set(ToTensor()(make_image(8, 8, mode="1")).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("to_tensor", [ToTensor(), ToUint8Tensor()])
def test_arrays_are_taken_and_tensors_pass(to_tensor):
    pixels = np.zeros((4, 5, 3), np.uint8)
    assert to_tensor(pixels).shape == (3, 4, 5)
    assert to_tensor(pixels[..., 0]).shape == (1, 4, 5)
    tensor = torch.zeros(3, 4, 5)
    assert to_tensor(tensor) is tensor


def test_what_is_no_image_is_refused():
    with pytest.raises(TypeError, match="not str"):
        ToTensor()("image.jpg")
    with pytest.raises(TypeError, match="2 or 3 dimensions, not 4"):
        ToTensor()(np.zeros((1, 4, 5, 3), np.uint8))


def test_convert_mode_turns_images_into_rgb_and_lets_the_rest_pass():
    assert ConvertMode()(make_image(4, 4, mode="P")).mode == "RGB"
    assert ConvertMode("L")(make_image(4, 4)).mode == "L"
    for passed in (make_image(4, 4), torch.zeros(3, 4, 4), np.zeros((4, 4, 3))):
        assert ConvertMode()(passed) is passed


def test_normalize_subtracts_and_divides_by_channel_without_writing_to_its_input():
    image = torch.full((3, 2, 2), 0.5)
    result = Normalize(MEAN, STD)(image)
    assert result[:, 0, 0].tolist() == pytest.approx([0.8, 0.5, 2 / 7])
    assert (image == 0.5).all()
    assert torch.equal(Normalize(MEAN, STD)(image[None])[0], result)


def test_normalize_refuses_bytes_and_a_zero_deviation():
    with pytest.raises(TypeError, match="uint8"):
        Normalize(MEAN, STD)(torch.zeros(3, 2, 2, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="image_std"):
        Normalize(MEAN, (1, 0, 1))


def test_a_batch_of_bytes_normalises_to_the_very_bits_of_single_images():
    levels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16)
    single = Normalize(MEAN, STD)(ToTensor()(levels[0].permute(1, 2, 0).numpy()))
    assert torch.equal(normalize_images(levels, MEAN, STD)[0], single)


def test_a_large_batch_is_normalised_as_each_of_its_images():
    pixels = torch.randint(0, 256, (40, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert pixels.numel() > _MANY
    normalized = normalize_images(pixels, MEAN, STD)
    assert normalized.is_contiguous()
    for place, image in zip(normalized, pixels, strict=True):
        assert torch.equal(place, normalize_images(image[None], MEAN, STD)[0])
    strided = pixels.permute(0, 1, 3, 2)
    assert torch.equal(normalize_images(strided, MEAN, STD), normalized.permute(0, 1, 3, 2))


def test_normalize_images_lets_floats_pass_and_keeps_its_input():
    floats = torch.rand(2, 3, 4, 4)
    assert normalize_images(floats, MEAN, STD) is floats
    pixels = torch.full((2, 3, 4, 4), 7, dtype=torch.uint8)
    assert normalize_images(pixels, list(MEAN), list(STD)).dtype == torch.float32
    assert (pixels == 7).all()


def test_normalisation_first_used_without_gradients_serves_training_too():
    pixels = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    mean = (0.11, 0.22, 0.33)
    with torch.inference_mode():
        normalize_images(pixels, mean, STD)
    weight = torch.ones(1, requires_grad=True)
    (normalize_images(pixels, mean, STD) * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("is_train", [True, False])
def test_to_uint8_gives_the_same_pixels_before_normalisation(is_train):
    transform = image_transform(16, is_train, MEAN, STD)
    kept = to_uint8(transform)
    image = make_image(40, 30)
    generators = (torch.Generator().manual_seed(1) for _ in range(2))
    floats, pixels = transform(image, next(generators)), kept(image, next(generators))
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 16, 16))
    assert torch.equal(normalize_images(pixels[None], *normalization_of(transform))[0], floats)
    assert kept.transforms[0].size == transform.transforms[0].size


def test_normalization_of_reads_mean_and_deviation():
    assert normalization_of(image_transform(16, False, MEAN, STD)) == (MEAN, STD)


@pytest.mark.parametrize(
    "transform", [Compose([]), Compose([Resize(4), ToTensor()]), Compose([Normalize(MEAN, STD)]), len]
)
@pytest.mark.parametrize("function", [to_uint8, normalization_of])
def test_another_ending_is_refused_and_shown(function, transform):
    with pytest.raises(ConfigError, match="does not end in"):
        function(transform)


def test_upstreams_names_are_kept():
    assert MaybeToTensor is ToTensor
    assert MaybeConvertMode is ConvertMode


def test_repr_shows_the_settings():
    assert [repr(step) for step in (ToTensor(), ToUint8Tensor(), ConvertMode())] == [
        "ToTensor()",
        "ToUint8Tensor()",
        "ConvertMode(mode=RGB)",
    ]
    assert repr(Normalize(MEAN, STD)) == "Normalize(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))"


def wide_image(mode):
    if mode == "I;16B":
        return Image.frombytes(mode, RAMP.shape[::-1], RAMP.astype(">u2").tobytes())
    levels = {"I;16": RAMP.astype("<u2"), "I": (RAMP / 257).astype(np.int32), "F": (RAMP / 257).astype(np.float32)}[
        mode
    ]
    return Image.fromarray(levels)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
@pytest.mark.parametrize("is_train", [False, True])
def test_grey_of_more_than_8_bits_looks_like_its_8_bits(mode, is_train):
    transform = image_transform(24, is_train)
    expected, found = (
        transform(image, torch.Generator().manual_seed(1))
        for image in (Image.fromarray((RAMP / 257).astype(np.uint8)), wide_image(mode))
    )
    assert expected.std() > 0.3
    assert (expected - found).abs().max() < 3 / 255 / 0.26


@pytest.mark.parametrize(
    "levels",
    [RAMP.astype(np.int32), (RAMP / 65535).astype(np.float32), np.full((9, 9), np.nan, np.float32), -RAMP.astype("f4")],
)
def test_levels_of_an_unknown_range_are_refused_and_not_made_white_or_black(levels):
    for is_train in (False, True):
        with pytest.raises(DataError, match="save it with 8 or 16 bits"):
            image_transform(8, is_train)(Image.fromarray(levels))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
)
def test_every_other_mode_is_turned_as_pillow_turns_it(mode):
    image = make_image(9, 7).convert("RGBA" if mode == "RGBa" else "RGB").convert("L" if mode in ("PA",) else mode)
    image = image.convert("P").convert("PA") if mode == "PA" else image
    assert np.array_equal(np.asarray(ConvertMode()(image)), np.asarray(image.convert("RGB")))
