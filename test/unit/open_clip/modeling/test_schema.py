"""Configurations are checked before a layer is made: kinds, bounds, families that are not here."""

import time
import tracemalloc

import pytest
import torch

import open_clip
from open_clip.errors import ConfigError
from open_clip.families import check_model_cfg
from open_clip.modeling.preprocess import check_preprocess_cfg
from tiny_models import tiny_coca_config, tiny_config


def _refusal(config):
    with pytest.raises(ConfigError) as caught:
        check_model_cfg(config, "here.json")
    message = str(caught.value)
    assert message.startswith("here.json: ")
    assert len(message) < 400
    assert all(char.isprintable() for char in message)
    return message


@pytest.mark.parametrize("name", open_clip.list_models())
def test_every_shipped_model_passes(name):
    # Sizes that this machine could not hold are another test's.
    with torch.device("meta"):
        check_model_cfg(open_clip.get_model_config(name), name)


@pytest.mark.parametrize(
    "section, key, value, says",
    [
        ("vision_cfg", "layers", 1e29, "vision_cfg.layers is 1e+29; it must be"),
        ("vision_cfg", "layers", 10**29, "it must be from 1 to 1024"),
        ("vision_cfg", "layers", "12", "vision_cfg.layers is '12'; it must be"),
        ("vision_cfg", "layers", [1, 2, 3], "a list of 4 whole numbers or a whole number"),
        ("vision_cfg", "width", -5, "vision_cfg.width is -5; it must be from 1"),
        ("vision_cfg", "width", True, "vision_cfg.width is true; it must be a whole number"),
        ("vision_cfg", "image_size", [224], "vision_cfg.image_size is [224]; it must be"),
        ("vision_cfg", "image_size", 4, "larger than image_size 4"),
        ("vision_cfg", "head_width", 65, "head_width gives 0 heads"),
        ("vision_cfg", "mlp_ratio", float("nan"), "vision_cfg.mlp_ratio is nan; it must be a number"),
        ("vision_cfg", "mlp_ratio", float("inf"), "vision_cfg.mlp_ratio is inf; it must be a number"),
        ("vision_cfg", "attentional_pool", "serial", "it can be true, false, 'parallel', 'cascade'"),
        ("vision_cfg", "norm_kwargs", {"eps": "1e-6"}, "vision_cfg.norm_kwargs.eps is '1e-6'; it must be a number"),
        ("vision_cfg", "act_kwargs", {"approximate_": "tanh"}, "Did you mean approximate"),
        ("text_cfg", "heads", 3, "heads gives 3 heads"),
        ("text_cfg", "context_length", None, "text_cfg.context_length is null"),
        ("text_cfg", "vocab_size", [[[]]], "text_cfg.vocab_size is [[[]]]"),
        ("text_cfg", "hf_model_name", {"a": 1}, "it must be a text or null"),
        ("text_cfg", "width_", 64, "text_cfg has no field 'width_'. Did you mean width"),
        ("text_cfg", "\x1b[31m", 64, r"no field '\x1b[31m'"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_section(section, key, value, says):
    assert says in _refusal(tiny_config(**{section.removesuffix("_cfg"): {key: value}}))


@pytest.mark.parametrize(
    "key, value, says",
    [
        ("embed_dim", "512", "embed_dim is '512'; it must be a whole number"),
        ("quick_gelu", 1, "quick_gelu is 1; it must be true or false"),
        ("vision_cfg", [1], "vision_cfg is [1]; it must be an object"),
        ("text_cfg", None, "it has no text_cfg"),
        ("init_logit_scale", float("nan"), "init_logit_scale is nan"),
        ("quick_gellu", True, "no field 'quick_gellu'. Did you mean quick_gelu"),
    ],
)
def test_a_wrong_value_at_the_top_is_named(key, value, says):
    assert says in _refusal(tiny_config() | {key: value})


def test_something_else_than_an_object_is_no_model():
    for value in (None, [], "x" * 100_000, 5):
        assert "must be an object" in _refusal(value)


@pytest.mark.parametrize(
    "change, family, key",
    [
        ({"text_cfg": {"tokenizer_type": "tiktoken"}}, "tiktoken", "tokenizer_type"),
        ({"text_cfg": {"text_arch": "modern"}}, "modern text towers", "text_arch"),
        ({"text_cfg": {"variable_text": True}}, "variable length", "variable_text"),
        ({"text_cfg": {"cross_attn_ratio": 2}}, "MaMMUT", "cross_attn_ratio"),
        ({"text_cfg": None, "multimodal_cfg": {"width": 64}}, "MaMMUT", "multimodal_cfg"),
        ({"audio_cfg": {"model_type": "HTSAT"}}, "CLAP", "audio_cfg"),
        ({"vision_cfg": None, "text_cfg": None, "genlip_cfg": {}}, "GenLIP", "genlip_cfg"),
        ({"genlap_cfg": {"width": 64}}, "GenLAP", "genlap_cfg"),
        ({"vision_cfg": {"timm_model_kwargs": {"a": 1}}}, "NaFlex", "timm_model_kwargs"),
    ],
)
def test_a_family_that_is_not_here_is_refused_by_family_and_key(change, family, key, tmp_path):
    config = tiny_config()
    for name, value in change.items():
        config[name] = config.get(name, {}) | value if isinstance(value, dict) else value
    config = {name: value for name, value in config.items() if value is not None}
    message = _refusal(config)
    assert family in message
    assert repr(key) in message or key in message.split(":")[1]
    open_clip.factory._MODEL_CONFIGS["of-another-family"] = config
    try:
        for make in (open_clip.create_model, open_clip.get_tokenizer):
            with pytest.raises(ConfigError, match=family):
                make("of-another-family")
    finally:
        del open_clip.factory._MODEL_CONFIGS["of-another-family"]


def test_keys_of_other_families_that_ask_for_nothing_are_let_through():
    check_model_cfg(tiny_config(text={"variable_text": False, "text_arch": None}) | {"audio_cfg": None}, "here")
    check_model_cfg(tiny_coca_config() | {"genlip_cfg": None}, "here")


def test_a_model_that_no_memory_holds_is_refused_before_any_is_asked_for():
    config = tiny_config(vision={"layers": 1000, "width": 65536, "head_width": 64})
    tracemalloc.start()
    try:
        started = time.process_time()
        open_clip.factory._MODEL_CONFIGS["of-no-size"] = config
        with pytest.raises(ConfigError, match="this machine has"):
            open_clip.create_model("of-no-size")
        assert time.process_time() - started < 5
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
        del open_clip.factory._MODEL_CONFIGS["of-no-size"]


@pytest.mark.parametrize(
    "key, value",
    [
        ("mean", "red"),
        ("mean", [0.5, 0.5]),
        ("mean", [0.5, float("nan"), 0.5]),
        ("std", [0.5, 0, 0.5]),
        ("interpolation", "nearest"),
        ("resize_mode", ["squash"]),
        ("mode", "L"),
    ],
)
def test_preprocessing_that_cannot_be_is_named(key, value):
    with pytest.raises(ConfigError, match=f"here.json: preprocess_cfg.{key} is "):
        check_preprocess_cfg({key: value}, "here.json")


def test_preprocessing_of_the_hub_passes():
    check_preprocess_cfg({"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash", "unread": [[]]}, "here")
    check_preprocess_cfg({"size": [224, 224], "mode": "RGB", "fill_color": 0, "interpolation": None}, "here")


def test_null_is_a_switch_that_is_off():
    off = {"vision_cfg": ("no_ln_pre", "attentional_pool", "qk_norm"), "text_cfg": ("proj_bias", "no_causal_mask")}
    config = tiny_config() | {"quick_gelu": None, "custom_text": None}
    for section, switches in off.items():
        config[section] = config[section] | dict.fromkeys(switches)
    check_model_cfg(config, "a")


@pytest.mark.parametrize("key", ["hf_proj_type", "hf_pooler_type"])
def test_an_encoder_may_come_without_projection_and_with_its_own_pooler(key):
    check_model_cfg(tiny_config() | {"text_cfg": {"hf_model_name": "roberta-base", key: None}}, "here")
