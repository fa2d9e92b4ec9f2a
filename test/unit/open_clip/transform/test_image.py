import pickle
import sys
import warnings

import pytest
import torch
from PIL import Image

from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.errors import ConfigError, MissingDependency
from open_clip.transform import (
    AugmentationCfg,
    ColorJitter,
    Grayscale,
    PreprocessCfg,
    image_transform,
    image_transform_v2,
    normalization_of,
)
from sample_images import make_image


def _steps(transform):
    return [type(step).__name__ for step in transform.transforms]


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("size, shape", [(16, (3, 16, 16)), ((16, 24), (3, 16, 24)), ([20], (3, 20, 20))])
def test_any_image_becomes_a_tensor_of_the_size(is_train, size, shape):
    transform = image_transform(size, is_train)
    for mode in ("RGB", "L", "P", "RGBA", "CMYK", "1"):
        assert transform(make_image(50, 30, mode=mode)).shape == shape


def test_training_crops_at_random_and_nothing_else():
    transform = image_transform(16, True)
    assert _steps(transform) == ["RandomResizedCrop", "ConvertMode", "ToTensor", "Normalize"]
    assert transform.transforms[0].scale == (0.9, 1.0)
    assert transform.transforms[0].interpolation is Image.Resampling.BICUBIC


def test_a_generator_alone_decides_a_training_image():
    transform = image_transform(16, True, aug_cfg={"gray_scale_prob": 0.5, "scale": (0.2, 1.0)})
    image = make_image(50, 30)
    first, again, other = (transform(image, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "mode, size, steps",
    [
        ("shortest", 16, ["Resize", "CenterCrop"]),
        ("shortest", (16, 24), ["ResizeKeepRatio", "CenterCrop"]),
        ("longest", 16, ["ResizeKeepRatio", "CenterCropOrPad"]),
        ("squash", 16, ["Resize"]),
    ],
)
def test_validation_follows_the_resize_mode(mode, size, steps):
    assert _steps(image_transform(size, False, resize_mode=mode)) == [*steps, "ConvertMode", "ToTensor", "Normalize"]


@pytest.mark.parametrize(
    "asked, used", [(None, "BICUBIC"), ("bicubic", "BICUBIC"), ("bilinear", "BILINEAR"), ("random", "BICUBIC")]
)
def test_validation_resizes_with_the_filter_asked_for(asked, used):
    assert image_transform(16, False, interpolation=asked).transforms[0].interpolation.name == used


def test_longest_pads_with_the_fill_colour():
    transform = image_transform(16, False, 0.5, 0.5, resize_mode="longest", fill_color=255)
    corner = transform(Image.new("RGB", (32, 8)))[:, 0, 0]
    assert corner.tolist() == [1, 1, 1]


def test_arguments_may_come_by_place():
    transform = image_transform(16, False, (0.1, 0.2, 0.3), (1, 1, 1), "squash", "bilinear", 0, None)
    assert _steps(transform)[0] == "Resize"
    assert normalization_of(transform) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    "given, used", [(None, OPENAI_DATASET_MEAN), (0.5, (0.5,) * 3), (0, (0.0,) * 3), ([1, 2, 3], (1.0, 2.0, 3.0))]
)
def test_mean_is_openais_or_one_number_or_one_a_channel(given, used):
    assert normalization_of(image_transform(16, False, mean=given))[0] == used


def test_the_first_step_knows_its_size():
    assert image_transform(16, True).transforms[0].size == (16, 16)
    assert image_transform(16, False).transforms[0].size == 16


def test_v2_reads_everything_from_the_cfg():
    cfg = PreprocessCfg(
        size=20, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear", resize_mode="longest", fill_color=3
    )
    by_hand = image_transform(20, False, (0, 0, 0), (1, 1, 1), "longest", "bilinear", 3)
    assert repr(image_transform_v2(cfg, is_train=False)) == repr(by_hand)
    assert normalization_of(image_transform_v2(PreprocessCfg(), True)) == (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)


@pytest.mark.parametrize("as_dict", [True, False])
def test_colour_changes_come_after_the_crop(as_dict):
    settings = {"color_jitter": (0.4, 0.3, 0.2, 0.1), "color_jitter_prob": 0.8, "gray_scale_prob": 0.2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transform = image_transform(16, True, aug_cfg=settings if as_dict else AugmentationCfg(**settings))
    assert _steps(transform)[1:4] == ["ConvertMode", "ColorJitter", "Grayscale"]
    jitter, gray = transform.transforms[2:4]
    assert isinstance(jitter, ColorJitter)
    assert isinstance(gray, Grayscale)
    assert (jitter.p, gray.p) == (0.8, 0.2)


@pytest.mark.parametrize("settings", [{"ratio": (1, 2)}, {"re_prob": 0.2}, {"re_count": 1}, {"color_jitter": 0.4}])
def test_settings_without_effect_are_named_in_a_warning(settings):
    with pytest.warns(UserWarning, match=f"without effect: {next(iter(settings))}"):
        image_transform(16, True, aug_cfg=settings)


def test_colour_jitter_with_a_chance_needs_four_values():
    with pytest.raises(ConfigError, match="four values"):
        image_transform(16, True, aug_cfg={"color_jitter": 0.4, "color_jitter_prob": 0.8})


def test_an_unknown_augmentation_setting_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean color_jitter"):
        image_transform(16, True, aug_cfg={"colour_jitter": 0.4})


@pytest.mark.parametrize(
    "options, nearest", [({"resize_mode": "longes"}, "longest"), ({"interpolation": "bicubik"}, "bicubic")]
)
def test_an_unknown_choice_is_answered_with_the_nearest(options, nearest):
    with pytest.raises(ConfigError, match=f"Did you mean {nearest}"):
        image_transform(16, False, **options)


def test_timm_is_only_needed_when_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.data", None)
    image_transform(16, True)
    with pytest.raises(MissingDependency, match=r"pip install -e '\.\[timm\]'"):
        image_transform(16, True, aug_cfg={"use_timm": True})


def test_a_torchvision_that_does_not_fit_torch_is_told_as_a_missing_timm(monkeypatch, tmp_path):
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependency, match="torchvision::nms"):
        image_transform(16, True, aug_cfg={"use_timm": True})


def test_transforms_travel_to_a_worker():
    transform = image_transform(16, True, aug_cfg={"gray_scale_prob": 0.5})
    copy = pickle.loads(pickle.dumps(transform))
    image = make_image(30, 30)
    one, other = (each(image, torch.Generator().manual_seed(1)) for each in (transform, copy))
    assert torch.equal(one, other)


def test_a_rotated_camera_image_is_not_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    make_image(60, 30).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    make_image(60, 30).save(tmp_path / "plain.jpg", quality=95)
    turned, plain = (image_transform(16, False)(Image.open(tmp_path / name)) for name in ("turned.jpg", "plain.jpg"))
    assert torch.equal(turned, plain)


def test_what_2_x_had_for_the_resize_mode_is_known_by_place_and_by_name():
    image = make_image(40, 60)
    longest = image_transform(32, False, resize_mode="longest")(image)
    assert torch.equal(image_transform(32, False, None, None, True)(image), longest)
    assert torch.equal(image_transform(32, False, resize_longest_max=True)(image), longest)
    shortest = image_transform(32, False)(image)
    assert torch.equal(image_transform(32, False, None, None, False)(image), shortest)
    assert torch.equal(image_transform(32, False, resize_longest_max=False)(image), shortest)
