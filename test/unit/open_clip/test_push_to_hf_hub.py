import json
from types import SimpleNamespace

import pytest
import torch

import open_clip
from open_clip.errors import CheckpointError
from open_clip.push_to_hf_hub import generate_readme, main, save_for_hf
from tiny_models import tiny_clip, tiny_config, write_config
from toy_families import ImageFamily, added

NAME = "tiny-shared"


@pytest.fixture
def model(tmp_path):
    open_clip.add_model_config(write_config(tmp_path, NAME, tiny_config()))
    model = open_clip.create_model(NAME, force_preprocess_cfg={"mean": (0.5,) * 3, "resize_mode": "squash"})
    model.load_state_dict(tiny_clip(seed=4).state_dict())
    return model


@pytest.mark.parametrize("kind", [True, False, "both"])
def test_a_saved_folder_loads_as_the_same_model(model, tmp_path, kind):
    folder = tmp_path / "new" / "folder"
    save_for_hf(model, open_clip.get_tokenizer(NAME), open_clip.get_model_config(NAME), folder, kind)
    loaded = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())
    assert loaded.visual.preprocess_cfg["resize_mode"] == "squash"
    assert list(loaded.visual.image_mean) == [0.5] * 3
    names = {path.name for path in folder.iterdir()}
    assert ("open_clip_model.safetensors" in names) == bool(kind)
    assert ("open_clip_pytorch_model.bin" in names) == (kind is not True)
    assert {"vocab.json", "merges.txt", "tokenizer_config.json"} <= names


def test_weights_can_be_left_out(model, tmp_path):
    save_for_hf(model, None, open_clip.get_model_config(NAME), tmp_path / "config", skip_weights=True)
    assert [path.name for path in (tmp_path / "config").iterdir()] == ["open_clip_config.json"]


def test_the_safetensors_file_alone_knows_its_preprocessing(model, tmp_path):
    save_for_hf(model, None, open_clip.get_model_config(NAME), tmp_path, True)
    loaded = open_clip.create_model(NAME, tmp_path / "open_clip_model.safetensors")
    assert loaded.visual.preprocess_cfg["resize_mode"] == "squash"


def test_a_folder_that_cannot_be_made_is_named(model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="choose another folder"):
        save_for_hf(model, None, {}, tmp_path / "file" / "folder")


def test_the_name_is_function_and_module():
    from open_clip.push_to_hf_hub import push_to_hf_hub

    assert callable(open_clip.push_to_hf_hub)
    with pytest.raises(TypeError, match="push_to_hf_hub"):
        open_clip.push_to_hf_hub()
    assert open_clip.push_to_hf_hub.push_to_hf_hub is push_to_hf_hub


def test_a_card_has_a_head_that_is_yaml():
    import yaml

    card = generate_readme({"license": "apache-2.0", "details": {"Dataset": ["a", "b"]}, "usage": "Call it."}, "Tiny")
    _, head, body = card.split("---\n")
    assert yaml.safe_load(head)["license"] == "apache-2.0"
    assert "- **Dataset:** a, b" in body
    assert "## Usage\n\nCall it." in body


@pytest.fixture
def hub(monkeypatch):
    """Stand for the hub's side: the three functions of its client that go over the network."""
    import huggingface_hub

    seen = {}

    def upload_folder(**options):
        import pathlib

        seen.update(options)
        files = pathlib.Path(options["folder_path"]).iterdir()
        seen["files"] = {path.name: path.read_bytes() for path in files}

    monkeypatch.setattr(huggingface_hub, "create_repo", lambda name, **_: SimpleNamespace(repo_id=name))
    monkeypatch.setattr(huggingface_hub, "file_exists", lambda *_, **__: False)
    monkeypatch.setattr(huggingface_hub, "upload_folder", upload_folder)
    return seen


def test_the_command_puts_a_whole_folder_on_the_hub(model, hub, tmp_path):
    save_for_hf(model, None, {}, tmp_path, True)
    weights = str(tmp_path / "open_clip_model.safetensors")
    words = ["--model", NAME, "--pretrained", weights, "--repo-id", "org/tiny", "--image-mean", "0.1", "0.2", "0.3"]
    assert main(words) == 0
    assert (hub["repo_id"], hub["commit_message"]) == ("org/tiny", "Add model")
    config = json.loads(hub["files"]["open_clip_config.json"])
    assert config["model_cfg"] == open_clip.get_model_config(NAME)
    assert config["preprocess_cfg"]["mean"] == [0.1, 0.2, 0.3]
    assert hub["files"]["README.md"].startswith(b"---\nlicense")


def test_a_model_without_texts_goes_to_the_hub_without_a_tokenizer(hub, tmp_path):
    with added(tmp_path / "pushed-toy.json") as add:
        add(ImageFamily(), {"width": 6})
        model = open_clip.create_model("pushed-toy")
        torch.save(model.state_dict(), tmp_path / "weights.pt")
        words = ["--model", "pushed-toy", "--pretrained", str(tmp_path / "weights.pt"), "--repo-id", "org/toy"]
        assert main(words) == 0
        assert main([*words, "--hf-tokenizer-self"]) == 2
    assert json.loads(hub["files"]["open_clip_config.json"])["model_cfg"] == {"family": "image_only", "width": 6}
    assert set(hub["files"]) == {
        "README.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.bin",
    }


def test_a_command_that_fails_says_why(hub, caplog):
    assert main(["--model", "ViT-B-32", "--pretrained", "nonsense", "--repo-id", "org/x"]) == 2
    assert "has no weights called 'nonsense'" in caplog.text
