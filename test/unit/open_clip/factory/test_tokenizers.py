import pytest

import open_clip
from open_clip.errors import ConfigError
from tiny_models import tiny_config, write_config


def test_the_tokenizer_pads_to_the_models_context():
    assert open_clip.get_tokenizer("ViT-tiny-16-64")(["a cat"]).shape == (1, 24)
    assert open_clip.get_tokenizer("ViT-tiny-16-64", context_length=9)(["a cat"]).shape == (1, 9)
    assert open_clip.get_tokenizer()(["a cat"]).shape == (1, 77)


def test_an_unknown_model_gets_clips_tokenizer_with_a_warning(caplog):
    assert open_clip.get_tokenizer("no-such-model").context_length == 77
    assert "no-such-model" in caplog.text


def test_keywords_replace_the_configured_ones(tmp_path):
    config = tiny_config(None, {"tokenizer_kwargs": {"clean": "canonicalize"}})
    open_clip.add_model_config(write_config(tmp_path, "tiny-canonical", config))
    canonical, lower = (
        open_clip.get_tokenizer("tiny-canonical"),
        open_clip.get_tokenizer("tiny-canonical", clean="lower"),
    )
    assert canonical(["a cat!"]).tolist() == lower(["a cat"]).tolist()
    assert lower(["a cat!"]).tolist() != lower(["a cat"]).tolist()


def test_tokenizers_of_other_kinds_are_refused_by_name(tmp_path):
    open_clip.add_model_config(write_config(tmp_path, "tiny-hf", tiny_config(None, {"hf_tokenizer_name": "org/tok"})))
    with pytest.raises(ConfigError, match="'org/tok', which is not supported yet"):
        open_clip.get_tokenizer("tiny-hf")
