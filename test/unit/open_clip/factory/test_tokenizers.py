import json
import shutil
from pathlib import Path

import pytest

import open_clip
from extras import needs_hf
from open_clip.errors import ConfigError
from open_clip.factory.tokenizers import choose_tokenizer
from open_clip.tokenizer import HFTokenizer, SigLipTokenizer, SimpleTokenizer
from tiny_models import tiny_config, write_config
from tiny_tokenizers import TOKENIZERS, write_sentencepiece


def _chosen(*args, **kwargs):
    """The class, the tokenizer's name and the options that are chosen."""
    made = choose_tokenizer(*args, **kwargs)
    return made.func, *made.args, made.keywords


def _hub_repository(cache, repository, files):
    """Put a repository into a cache folder as the hub's client keeps it, and return its folder."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        (snapshot / name).write_text(content)
    return snapshot


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def _model_folder(path, text_cfg):
    path.mkdir(exist_ok=True)
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny_config(None, text_cfg)}))
    return f"local-dir:{path}"


def test_the_tokenizer_pads_to_the_models_context():
    assert open_clip.get_tokenizer("ViT-tiny-16-64")(["a cat"]).shape == (1, 24)
    assert open_clip.get_tokenizer("ViT-tiny-16-64", context_length=9)(["a cat"]).shape == (1, 9)
    assert open_clip.get_tokenizer()(["a cat"]).shape == (1, 77)


def test_an_unknown_model_gets_clips_tokenizer_with_a_warning(caplog):
    assert open_clip.get_tokenizer("no-such-model").context_length == 77
    assert "no-such-model" in caplog.text


def test_an_unknown_model_with_siglip_in_its_name_gets_clips_tokenizer_too():
    assert _chosen("my-siglip", clean="lower") == (SimpleTokenizer, {"context_length": 77, "clean": "lower"})


def test_keywords_replace_the_configured_ones(tmp_path):
    config = tiny_config(None, {"tokenizer_kwargs": {"clean": "canonicalize"}})
    open_clip.add_model_config(write_config(tmp_path, "tiny-canonical", config))
    canonical, lower = (
        open_clip.get_tokenizer("tiny-canonical"),
        open_clip.get_tokenizer("tiny-canonical", clean="lower"),
    )
    assert canonical(["a cat!"]).tolist() == lower(["a cat"]).tolist()
    assert lower(["a cat!"]).tolist() != lower(["a cat"]).tolist()


def test_a_configured_hugging_face_tokenizer_is_made_as_configured():
    options = {"context_length": 64, "cache_dir": "kept", "tokenizer_mode": None}
    assert _chosen("ViT-B-16-SigLIP", cache_dir="kept", strip_sep_token=True) == (
        HFTokenizer,
        "timm/ViT-B-16-SigLIP",
        options | {"clean": "canonicalize", "strip_sep_token": True},
    )
    options = {"context_length": 16, "cache_dir": None, "tokenizer_mode": None}
    assert _chosen("ViT-H-14-CLIPA", 16, strip_sep_token=False) == (
        HFTokenizer,
        "bert-base-uncased",
        options | {"strip_sep_token": False},
    )


@pytest.mark.parametrize(
    "name, vocabulary", [("tiny-SigLIP", "c4-en"), ("tiny-siglip-i18n", "mc4"), ("tiny-SigLIP2-i18n", "gemma")]
)
def test_a_siglip_model_that_names_no_tokenizer_gets_siglips_own(tmp_path, name, vocabulary):
    open_clip.add_model_config(write_config(tmp_path, name, tiny_config()))
    chosen = _chosen(name, cache_dir="kept")
    assert chosen == (SigLipTokenizer, vocabulary, {"context_length": 16, "cache_dir": "kept"})


def test_a_model_folder_brings_its_own_tokenizer_whatever_its_name(tmp_path):
    text = {"hf_tokenizer_name": "org/tok", "tokenizer_mode": "clips"}
    options = {"context_length": 16, "cache_dir": None, "tokenizer_mode": "clips"}
    assert _chosen(_model_folder(tmp_path / "siglip", text)) == (HFTokenizer, tmp_path / "siglip", options)
    assert _chosen(_model_folder(tmp_path / "siglip2", {})) == (SimpleTokenizer, {"context_length": 16})


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"open_clip_config\.json"):
        open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="has no 'model_cfg'"):
        open_clip.get_tokenizer(f"local-dir:{tmp_path}")


def test_a_hub_model_gets_the_tokenizer_of_its_configuration(tmp_path, offline):
    config = {"model_cfg": tiny_config(None, {"hf_tokenizer_name": "org/words"})}
    _hub_repository(tmp_path, "org/model", {"open_clip_config.json": json.dumps(config)})
    options = {"context_length": 16, "cache_dir": str(tmp_path), "tokenizer_mode": None}
    assert _chosen("hf-hub:org/model", cache_dir=str(tmp_path)) == (HFTokenizer, "org/words", options)


def test_a_hub_repository_without_a_configuration_is_a_tokenizer_itself(tmp_path, offline, caplog):
    _hub_repository(tmp_path, "org/words", {})
    options = {"context_length": 77, "cache_dir": str(tmp_path), "tokenizer_mode": None, "clean": "lower"}
    assert _chosen("hf-hub:org/words", cache_dir=str(tmp_path), clean="lower") == (HFTokenizer, "org/words", options)
    assert "Its tokenizer is taken from the repository org/words itself." in caplog.text


class TestWithTransformers:
    pytestmark = needs_hf

    def test_a_model_folder_holds_its_tokenizer(self, tmp_path):
        path = TOKENIZERS["wordpiece"](tmp_path)
        text = {"hf_tokenizer_name": "org/tok", "tokenizer_kwargs": {"strip_sep_token": True}}
        tokenizer = open_clip.get_tokenizer(_model_folder(tmp_path / "wordpiece", text))
        assert tokenizer("a cat").shape == (1, 16)
        assert tokenizer.tokenizer.sep_token_id not in tokenizer("a cat")
        assert tokenizer.tokenizer.name_or_path == path

    def test_siglips_vocabulary_is_taken_from_the_cache_folder(self, tmp_path):
        kept = tmp_path / "kept" / "siglip" / "c4-en"
        kept.mkdir(parents=True)
        (tmp_path / "made").mkdir()
        Path(write_sentencepiece(tmp_path / "made", "c4")).rename(kept / "sentencepiece.model")
        open_clip.add_model_config(write_config(tmp_path, "tiny-siglip-cached", tiny_config()))
        tokenizer = open_clip.get_tokenizer("tiny-siglip-cached", cache_dir=str(tmp_path / "kept"))
        assert tokenizer("a photo").tolist()[0][-1] == 1

    def test_a_hub_tokenizer_is_found_in_the_cache_folder(self, tmp_path, offline):
        path = TOKENIZERS["wordpiece"](tmp_path)
        snapshot = _hub_repository(tmp_path / "kept", "org/words", {"config.json": '{"model_type": "bert"}'})
        shutil.copytree(path, snapshot, dirs_exist_ok=True)
        tokenizer = open_clip.get_tokenizer("hf-hub:org/words", cache_dir=str(tmp_path / "kept"))
        assert tokenizer("a cat").tolist() == HFTokenizer(path)("a cat").tolist()
