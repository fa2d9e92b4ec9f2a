"""Model folders and tokenizers that bring Python code: none of it runs, and no message advises to run it."""

import json
import traceback

import pytest

import open_clip
from extras import needs_hf, needs_timm
from open_clip.errors import ConfigError, OpenClipError
from open_clip.tokenizer import HFTokenizer
from open_clip.tokenizer.options import HF_OPTIONS, OWN_OPTIONS, check_config_options
from tiny_encoders import write_encoder
from tiny_models import tiny_config
from tiny_tokenizers import TOKENIZERS

OWN_CODE = {"AutoTokenizer": ["evil.Evil", None], "AutoConfig": "evil.EvilConfig", "AutoModel": "evil.EvilModel"}
REACHING = ["trust_remote_code", "code_revision", "revision", "proxies", "token", "subfolder", "local_files_only"]
REACHING += [
    "cache_dir",
    "config",
    "gguf_file",
    "tokenizer_type",
    "tokenizer_file",
    "bpe_path",
    "auto_map",
    "from_slow",
]


def _write_code(folder):
    code = f"open({str(folder / 'ran')!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast as Evil\n"
    (folder / "evil.py").write_text(code)


def _write_model(folder, text=None, vision=None):
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny_config(vision, text)}))
    return f"local-dir:{folder}"


def _refused(call, folder):
    """The error of a call that runs nothing of a folder, and whose traceback advises nothing."""
    with pytest.raises(OpenClipError) as caught:
        call()
    assert not (folder / "ran").exists()
    assert "argument `trust_remote_code=True`" not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@pytest.mark.parametrize("known", [HF_OPTIONS, OWN_OPTIONS])
@pytest.mark.parametrize("option", REACHING)
def test_a_configuration_sets_no_option_that_runs_or_reaches_out(option, known):
    with pytest.raises(ConfigError, match=f"'{option}', which a configuration may not set"):
        check_config_options({option: "x"}, known)


@pytest.mark.parametrize("options", [5, ["clean"], {"clean": {}}, {"additional_special_tokens": "x"}, {"clean": None}])
def test_options_of_another_kind_are_refused(options):
    with pytest.raises(ConfigError, match="it has to be"):
        check_config_options(options, OWN_OPTIONS)


def test_every_shipped_configuration_passes():
    checked = 0
    for name in open_clip.list_models():
        text = open_clip.get_model_config(name).get("text_cfg", {})
        known = HF_OPTIONS if text.get("hf_tokenizer_name") else OWN_OPTIONS
        checked += bool(check_config_options(text.get("tokenizer_kwargs"), known))
    assert checked > 20


@pytest.mark.parametrize("length", ["x", [77], 0, 1e30])
def test_a_context_length_that_is_no_number_is_refused(tmp_path, length):
    with pytest.raises(ConfigError, match="text_cfg.context_length is"):
        open_clip.get_tokenizer(_write_model(tmp_path, {"context_length": length}))


@pytest.mark.parametrize("network", ["hf-hub:org/x", "local-dir:/tmp", "org/x", 5, {}])
def test_a_folders_configuration_sends_timm_nowhere(tmp_path, network):
    with pytest.raises(ConfigError, match="a network of timm's own"):
        open_clip.create_model(_write_model(tmp_path, vision={"timm_model_name": network}))


class TestTokenizers:
    pytestmark = needs_hf

    @pytest.fixture
    def folder(self, tmp_path):
        TOKENIZERS["wordpiece"](tmp_path)
        _write_code(tmp_path / "wordpiece")
        _write_model(tmp_path / "wordpiece", {"hf_tokenizer_name": "org/words"})
        return tmp_path / "wordpiece"

    @pytest.mark.parametrize("named", ["Evil", "AutoTokenizer", "AutoModel", "AutoConfig", "pipeline", 5])
    @pytest.mark.parametrize("config", [None, {"auto_map": OWN_CODE}, {"model_type": "evil", "auto_map": OWN_CODE}])
    def test_code_of_a_folder_never_runs_even_when_the_terminal_says_yes(self, folder, named, config, monkeypatch):
        monkeypatch.setattr("builtins.input", lambda *_: "y")
        settings = {"tokenizer_class": named, "auto_map": OWN_CODE}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        if config is not None:
            (folder / "config.json").write_text(json.dumps(config))
        said = _refused(lambda: open_clip.get_tokenizer(f"local-dir:{folder}"), folder)
        assert "is refused" in said or "cannot be read" in said

    @pytest.mark.parametrize("named", ["AutoTokenizer", "AutoModel"])
    def test_a_loader_named_as_the_class_does_not_run_it_either(self, folder, named, monkeypatch):
        monkeypatch.setattr("builtins.input", lambda *_: "y")
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": named}))
        (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": OWN_CODE}))
        _refused(lambda: HFTokenizer(folder), folder)

    def test_programs_cannot_ask_for_it_but_may_say_no(self, folder):
        assert "the Python code of a repository is never run" in _refused(
            lambda: HFTokenizer(folder, trust_remote_code=True), folder
        )
        assert HFTokenizer(folder, 9, trust_remote_code=False)("a cat").shape == (1, 9)

    def test_the_configured_switch_is_refused(self, folder):
        _write_model(folder, {"hf_tokenizer_name": "org/words", "tokenizer_kwargs": {"trust_remote_code": True}})
        said = _refused(lambda: open_clip.get_tokenizer(f"local-dir:{folder}"), folder)
        assert "'trust_remote_code', which a configuration may not set" in said

    @pytest.mark.parametrize("content", ["", "[]", "{}", "null", "[" * 100_000])
    def test_a_damaged_vocabulary_is_an_error_of_ours(self, folder, content):
        (folder / "tokenizer.json").write_text(content)
        assert "cannot be read" in _refused(lambda: HFTokenizer(folder), folder)


class TestTextTowers:
    pytestmark = needs_hf

    @pytest.mark.parametrize("pretrained", [True, False])
    @pytest.mark.parametrize("kind", ["evil", "bert"])
    def test_code_of_an_encoder_never_runs(self, tmp_path, kind, pretrained):
        folder = tmp_path / "tiny-bert"
        write_encoder(tmp_path, "bert")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_type": kind, "auto_map": OWN_CODE}))
        _write_code(folder)
        model = _write_model(tmp_path / "model", {"hf_model_name": str(folder)})
        if kind == "bert" and not pretrained:
            open_clip.create_model(model, pretrained_text=False)
            assert not (folder / "ran").exists()
        else:
            _refused(lambda: open_clip.create_model(model, pretrained_text=pretrained), folder)

    @pytest.mark.parametrize(
        "entry", [{"attn_implementation": "org/kernel"}, {"attn_implementation": "flash_attention_2"}]
    )
    def test_an_encoder_fetches_no_compiled_attention(self, tmp_path, entry):
        config = json.loads((tmp_path / write_encoder(tmp_path, "bert") / "config.json").read_text())
        (tmp_path / "tiny-bert" / "config.json").write_text(json.dumps(config | entry))
        model = _write_model(tmp_path / "model", {"hf_model_name": str(tmp_path / "tiny-bert")})
        said = _refused(lambda: open_clip.create_model(model, pretrained_text=False), tmp_path)
        assert "code from elsewhere" in said


class TestImageTowers:
    pytestmark = needs_timm

    def test_a_tag_that_timm_does_not_have_is_an_error_of_ours(self, tmp_path):
        model = _write_model(tmp_path, vision={"timm_model_name": "test_vit.nonsense", "image_size": 160})
        with pytest.raises(ConfigError, match=r"no model 'test_vit\.nonsense'"):
            open_clip.create_model(model)
