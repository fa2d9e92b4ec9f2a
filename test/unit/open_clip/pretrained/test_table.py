import pytest

import open_clip
from open_clip.pretrained import (
    _PRETRAINED,
    get_pretrained_cfg,
    get_pretrained_url,
    is_pretrained_cfg,
    list_pretrained,
    list_pretrained_models_by_tag,
    list_pretrained_tags_by_model,
)


def test_there_are_as_many_weights_as_upstream_has():
    assert len(list_pretrained()) == 196
    assert ("ViT-B-32", "openai") in list_pretrained()
    assert "ViT-B-32:openai" in list_pretrained(as_str=True)


def test_every_entry_says_where_it_lies_and_how_images_are_prepared():
    for model, tag in list_pretrained():
        cfg = get_pretrained_cfg(model, tag)
        assert cfg["url"].startswith("https://") or cfg["hf_hub"].count("/") == 2 or cfg["hf_hub"].endswith("/")
        assert len(cfg["mean"]) == len(cfg["std"]) == 3
        assert cfg["interpolation"] in ("bicubic", "bilinear")
        assert cfg["resize_mode"] in ("shortest", "squash")


@pytest.mark.parametrize("tag", ["laion2b_s34b_b79k", "laion2b-s34b-b79k", "LAION2B_s34B_b79K"])
def test_tags_are_found_whatever_their_case_and_dashes(tag):
    assert is_pretrained_cfg("ViT-B-32", tag)
    assert get_pretrained_cfg("ViT-B-32", tag)["hf_hub"] == "laion/CLIP-ViT-B-32-laion2B-s34B-b79K/"


def test_an_unknown_tag_gives_nothing():
    assert not is_pretrained_cfg("ViT-B-32", "nonsense")
    assert get_pretrained_cfg("nonsense", "openai") == {}
    assert get_pretrained_url("ViT-B-32", "nonsense") == ""


def test_quickgelu_weights_stand_under_the_quickgelu_model_too():
    for model, tag in list_pretrained():
        if get_pretrained_cfg(model, tag).get("quick_gelu") and not model.endswith("-quickgelu"):
            assert is_pretrained_cfg(f"{model}-quickgelu", tag)


def test_models_and_tags_are_listed_by_each_other():
    assert "RN50" in list_pretrained_models_by_tag("openai")
    assert list_pretrained_tags_by_model("ViT-L-14-336") == ["openai"]
    assert list_pretrained_tags_by_model("nonsense") == []


def test_a_returned_entry_is_a_copy():
    get_pretrained_cfg("ViT-B-32", "openai")["url"] = "changed"
    assert _PRETRAINED["ViT-B-32"]["openai"]["url"] == open_clip.get_pretrained_url("ViT-B-32", "openai") != "changed"
