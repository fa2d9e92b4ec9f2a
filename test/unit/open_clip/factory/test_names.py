import json
import os

import pytest

import open_clip
from open_clip import factory
from open_clip.errors import ConfigError, ModelNotFound
from open_clip.factory import parse_model_name
from tiny_models import tiny_config, write_config


def test_names_are_split_into_scheme_and_rest():
    assert parse_model_name("ViT-B/32") == (None, "ViT-B-32")
    assert parse_model_name("local-dir:/a/b") == ("local-dir", "/a/b")
    assert parse_model_name("hf-hub:org/repo") == ("hf-hub", "org/repo")
    with pytest.raises(ValueError, match="nothing after"):
        parse_model_name("local-dir:")


def test_models_are_listed_in_natural_order():
    names = open_clip.list_models()
    assert names.index("ViT-B-16") < names.index("ViT-B-32") < names.index("ViT-L-14")
    assert "ViT-tiny-16-64" in names


def test_a_config_is_a_copy():
    config = open_clip.get_model_config("ViT-B-32")
    config["vision_cfg"]["layers"] = 1
    assert open_clip.get_model_config("ViT-B/32")["vision_cfg"]["layers"] == 12
    assert open_clip.get_model_config("nothing-of-that-name") is None


def test_configs_of_a_file_or_folder_join_the_list(tmp_path):
    open_clip.add_model_config(write_config(tmp_path, "added-file", tiny_config()))
    (tmp_path / "folder").mkdir()
    write_config(tmp_path / "folder", "added-folder", tiny_config())
    (tmp_path / "folder" / "other.json").write_text(json.dumps({"embed_dim": 1}))
    open_clip.add_model_config(tmp_path / "folder")
    assert {"added-file", "added-folder"} <= set(open_clip.list_models())
    assert "other" not in open_clip.list_models()


def test_a_pipe_in_the_place_of_a_config_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "piped.json")
    with pytest.raises(ConfigError, match=r"piped\.json: .*not a plain file"):
        open_clip.add_model_config(tmp_path / "piped.json")


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_file_that_is_no_config_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"broken\.json"):
        open_clip.add_model_config(path)


def test_an_unknown_model_is_answered_with_the_nearest_names():
    with pytest.raises(ModelNotFound, match="Did you mean ViT-B-32") as caught:
        open_clip.create_model("ViT-B-33")
    assert len(str(caught.value)) < 300


def test_programs_may_write_a_model_of_their_own_into_the_registry(monkeypatch):
    registry = factory._MODEL_CONFIGS
    monkeypatch.setitem(registry, "written-in", {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}})
    assert "written-in" in factory.list_models()
    assert factory.get_model_config("written-in")["embed_dim"] == 8


@pytest.mark.parametrize(
    "content, says",
    [
        (b"[" * 10_000 + b"]" * 10_000, "nested deeper"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested deeper"),
        (b'{"embed_dim": 64, "embed_dim": 65}', "the key 'embed_dim' twice"),
        (b'{"embed_dim": NaN}', "NaN is no number"),
        (b"9" * 6000, "cannot be read as JSON"),
        (b'{"a": "\xff"}', "cannot be read as JSON"),
        (b'"' + b"a" * (2 << 20) + b'"', "larger than 1,048,576 bytes"),
        (b"", "cannot be read as JSON"),
    ],
)
def test_json_that_is_no_configuration_is_refused_by_file(tmp_path, content, says):
    path = tmp_path / "open_clip_config.json"
    path.write_bytes(content)
    for read in (
        lambda: open_clip.add_model_config(path),
        lambda: open_clip.create_model(f"local-dir:{tmp_path}"),
        lambda: open_clip.get_tokenizer(f"local-dir:{tmp_path}"),
    ):
        with pytest.raises(ConfigError, match=says) as caught:
            read()
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 500


def test_an_added_model_is_refused_by_its_file(tmp_path):
    open_clip.add_model_config(write_config(tmp_path, "wrong-kind", tiny_config(vision={"layers": "12"})))
    with pytest.raises(ConfigError, match=r"wrong-kind\.json: vision_cfg\.layers is '12'"):
        open_clip.create_model("wrong-kind")


def test_the_tokenizer_of_a_text_part_alone_is_checked_too(tmp_path):
    path = tmp_path / "open_clip_config.json"
    for text_cfg, says in ((5, "text_cfg is 5"), ({"tokenizer_type": "tiktoken"}, "'tokenizer_type'")):
        path.write_text(json.dumps({"model_cfg": {"text_cfg": text_cfg}}))
        with pytest.raises(ConfigError, match=says) as caught:
            open_clip.get_tokenizer(f"local-dir:{tmp_path}")
        assert str(path) in str(caught.value)
    path.write_text(json.dumps({"model_cfg": {"text_cfg": {"context_length": 9}}}))
    assert open_clip.get_tokenizer(f"local-dir:{tmp_path}")("a cat").shape == (1, 9)
