import pytest

from open_clip.errors import ConfigError
from open_clip.modeling.config import CLIPTextCfg, CLIPVisionCfg, make_cfg


def test_names_of_older_configs_are_understood():
    vision = make_cfg(CLIPVisionCfg, {"n_queries": 7, "global_average_pool": True})
    text = make_cfg(CLIPTextCfg, {"proj": "linear", "pooler_type": "cls_pooler"})
    assert (vision.attn_pooler_queries, vision.pool_type) == (7, "avg")
    assert (text.hf_proj_type, text.hf_pooler_type) == ("linear", "cls_pooler")


def test_an_unknown_key_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"no field 'patchsize'. Did you mean patch_size"):
        make_cfg(CLIPVisionCfg, {"patchsize": 8})


def test_a_patch_norm_of_old_configs_is_refused_with_its_reason_and_ignored_when_off():
    assert make_cfg(CLIPVisionCfg, {"input_patchnorm": False}) == CLIPVisionCfg()
    with pytest.raises(ConfigError, match="input_patchnorm is set: .* left open_clip during 2.x"):
        make_cfg(CLIPVisionCfg, {"input_patchnorm": True})
