import pytest

from open_clip.errors import ConfigError
from open_clip.model.config import CLIPTextCfg, CLIPVisionCfg, make_cfg
from open_clip.model.towers import build_text_tower, build_vision_tower


def test_names_of_older_configs_are_understood():
    vision = make_cfg(CLIPVisionCfg, {"n_queries": 7, "global_average_pool": True})
    text = make_cfg(CLIPTextCfg, {"proj": "linear", "pooler_type": "cls_pooler"})
    assert (vision.attn_pooler_queries, vision.pool_type) == (7, "avg")
    assert (text.hf_proj_type, text.hf_pooler_type) == ("linear", "cls_pooler")


def test_an_unknown_key_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"no field 'patchsize'. Did you mean patch_size"):
        make_cfg(CLIPVisionCfg, {"patchsize": 8})


@pytest.mark.parametrize(
    "cfg, named",
    [
        (CLIPVisionCfg(layers=[3, 4, 6, 3]), "ResNet"),
    ],
)
def test_a_tower_of_another_kind_is_refused_by_name(cfg, named):
    build = build_vision_tower if isinstance(cfg, CLIPVisionCfg) else build_text_tower
    with pytest.raises(ConfigError, match=f"{named}.* not supported yet"):
        build(32, cfg)
