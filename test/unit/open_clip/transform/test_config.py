import math

import pytest

from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.errors import ConfigError
from open_clip.transform import AugmentationCfg, PreprocessCfg, merge_preprocess_dict, merge_preprocess_kwargs
from open_clip.transform.config import read_augmentation


def test_preprocess_defaults_are_openai_clips():
    cfg = PreprocessCfg()
    assert (cfg.size, cfg.mode, cfg.interpolation, cfg.resize_mode, cfg.fill_color) == (
        224,
        "RGB",
        "bicubic",
        "shortest",
        0,
    )
    assert (cfg.mean, cfg.std) == (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    assert cfg.num_channels == 3


@pytest.mark.parametrize("size, shape", [(224, (3, 224, 224)), ((256, 192), (3, 256, 192))])
def test_input_size_is_channels_height_and_width(size, shape):
    assert PreprocessCfg(size=size).input_size == shape


def test_only_rgb_is_supported():
    with pytest.raises(ConfigError, match="'L'"):
        PreprocessCfg(mode="L")


def test_augmentation_defaults_crop_lightly_and_nothing_else():
    cfg = AugmentationCfg()
    assert cfg.scale == (0.9, 1.0)
    assert not cfg.use_timm
    assert {cfg.ratio, cfg.color_jitter, cfg.re_prob, cfg.re_count, cfg.color_jitter_prob, cfg.gray_scale_prob} == {
        None
    }


def test_augmentation_takes_its_settings_by_place():
    assert AugmentationCfg((0.5, 1.0), None, 0.4, 0.2, 1, True).use_timm


def test_overlay_wins_where_it_has_a_value():
    merged = merge_preprocess_dict({"size": 224, "mean": 0.5}, {"size": 336, "mean": None})
    assert merged == {"size": 336, "mean": 0.5}


def test_keys_that_are_no_preprocess_setting_are_left_out():
    assert merge_preprocess_dict({"size": 1, "colour": "blue"}, {"shape": 2}) == {"size": 1}


@pytest.mark.parametrize("overlay", [None, {}])
def test_without_an_overlay_the_base_comes_back_as_a_copy(overlay):
    base = {"size": 224}
    merged = merge_preprocess_dict(base, overlay)
    assert merged == base
    assert merged is not base


def test_a_cfg_as_base_gives_all_its_settings():
    merged = merge_preprocess_dict(PreprocessCfg(size=96), {"resize_mode": "longest"})
    assert PreprocessCfg(**merged) == PreprocessCfg(size=96, resize_mode="longest")


def test_kwargs_are_laid_over_the_same_way():
    merged = merge_preprocess_kwargs(PreprocessCfg(), interpolation="bilinear", std=None, unknown=1)
    assert PreprocessCfg(**merged) == PreprocessCfg(interpolation="bilinear")


@pytest.mark.parametrize(
    "name,value",
    [
        *(
            ("scale", value)
            for value in (5, (2, 3), (0.9,), (1, 0.5), (-1, 1), (0, 0), ("a", "b"), "0.5", None, (math.nan, 1))
        ),
        *(("ratio", value) for value in (1, (0, 1), (2, 1), (1, 2, 3))),
        *(("color_jitter", value) for value in (-1, "x", (1, 2), (1, 2, 3, "4"), ((1, 2, 3),) * 4)),
        *(("re_prob", value) for value in (-0.1, 1.1, "1")),
        *(("re_count", value) for value in (0, 1.5, -1, 10**9)),
        *(("use_timm", value) for value in (1, "yes")),
        *(("color_jitter_prob", 2), ("gray_scale_prob", -1), ("gray_scale_prob", math.inf), ("sclae", (0.9, 1.0))),
    ],
)
def test_an_augmentation_that_makes_no_sense_is_named(name, value):
    with pytest.raises(ConfigError, match=f"{name}|Did you mean scale"):
        read_augmentation({name: value})
    if name != "sclae":
        with pytest.raises(ConfigError, match=name):
            read_augmentation(AugmentationCfg(**{name: value}))


def test_augmentations_of_all_forms_pass_as_they_are():
    for settings in (
        {
            "scale": [0.08, 1.0],
            "ratio": (0.75, 1.33),
            "color_jitter": 0.4,
            "re_prob": 0.0,
            "re_count": 1,
            "use_timm": True,
        },
        {
            "scale": (0.5, 1.2),
            "color_jitter": (0.32, 0.32, 0.32, 0.08),
            "color_jitter_prob": 0.8,
            "gray_scale_prob": 0.2,
        },
        {"color_jitter": ((0.5, 1.5), 0.1, 0.1, (-0.1, 0.1)), "color_jitter_prob": 1},
    ):
        assert read_augmentation(settings) == AugmentationCfg(**settings)
    assert read_augmentation(None) == AugmentationCfg()
