import pytest

from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.errors import ConfigError
from open_clip.transform import AugmentationCfg, PreprocessCfg, merge_preprocess_dict, merge_preprocess_kwargs


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
