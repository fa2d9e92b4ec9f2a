import json
import logging
import warnings

import pytest
import torch
from safetensors.torch import save_file

import open_clip
from open_clip.checkpoint import CONFIG_ENTRY, write_safetensors
from open_clip.errors import CheckpointError, ModelNotFound
from open_clip.factory import source
from open_clip.factory.source import find_source
from open_clip.pretrained import _PRETRAINED
from tiny_models import tiny_clip, tiny_config, write_config

NAME = "tiny-source"
PREPROCESS = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear", "resize_mode": "squash"}


@pytest.fixture(autouse=True)
def known_model(tmp_path):
    open_clip.add_model_config(write_config(tmp_path, NAME, tiny_config()))


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_safetensors(tiny_clip().state_dict(), path)
    return path


@pytest.fixture
def add_tag(monkeypatch, weights):
    """Make weights known under a tag, as a row of the table with a file that is here."""

    def add(**entry):
        cfg = {"file": str(weights), "url": "", "hf_hub": "", **PREPROCESS, **entry}
        monkeypatch.setitem(_PRETRAINED, NAME, {"my_tag": cfg})

    return add


def test_a_tag_brings_weights_and_preprocessing(add_tag, weights):
    add_tag()
    found = find_source(NAME, "My-Tag")
    assert (found.weights_path, found.quick_gelu) == (weights, False)
    model, _, val = open_clip.create_model_and_transforms(NAME, pretrained="my_tag")
    assert model.visual.preprocess_cfg["resize_mode"] == "squash"
    assert tuple(model.visual.image_mean) == (0.5, 0.5, 0.5)
    assert val.transforms[0].size == (32, 32)


def test_arguments_win_over_what_a_tag_says(add_tag):
    add_tag()
    model, _ = open_clip.create_model_from_pretrained(NAME, "my_tag", image_mean=(0.1, 0.1, 0.1))
    assert tuple(model.visual.image_mean) == (0.1, 0.1, 0.1)
    assert tuple(model.visual.image_std) == (0.25, 0.25, 0.25)


@pytest.mark.filterwarnings("error")
def test_another_activation_than_the_weights_had_is_a_warning(add_tag):
    add_tag(quick_gelu=True)
    with pytest.warns(UserWarning, match="QuickGELU mismatch.*force_quick_gelu=True"):
        open_clip.create_model(NAME, "my_tag")
    open_clip.create_model(NAME, "my_tag", force_quick_gelu=True)
    add_tag()
    with pytest.warns(UserWarning, match="trained with GELU"):
        open_clip.create_model(NAME, "my_tag", force_quick_gelu=True)


def test_a_misspelt_tag_is_answered_with_the_nearest_ones():
    with pytest.raises(ModelNotFound, match="Did you mean laion2b_s34b_b79k") as caught:
        open_clip.create_model("ViT-B-32", pretrained="laion2b_s34b_b79")
    assert len(str(caught.value)) < 600


def test_a_model_without_tags_says_so():
    with pytest.raises(ModelNotFound, match="has none by tag"):
        open_clip.create_model(NAME, pretrained="openai")


def test_weights_that_are_not_wanted_are_not_fetched():
    assert find_source("ViT-B-32", "openai", load_weights=False).weights_path is None


def test_a_bare_file_says_that_its_preprocessing_is_not_known(weights, caplog):
    with caplog.at_level(logging.WARNING):
        assert find_source(NAME, weights).preprocess_cfg == {}
    assert "does not say how its images were prepared" in caplog.text


def test_a_file_whose_metadata_has_the_preprocessing_is_believed(tmp_path, caplog):
    path = tmp_path / "told.safetensors"
    told = json.dumps({"model_cfg": {}, "preprocess_cfg": PREPROCESS})
    write_safetensors(tiny_clip().state_dict(), path, {CONFIG_ENTRY: told})
    model = open_clip.create_model(NAME, path)
    assert model.visual.preprocess_cfg["interpolation"] == "bilinear"
    assert not caplog.records


def test_a_file_beside_a_config_is_prepared_as_the_config_says(tmp_path, weights, caplog):
    config = {"model_cfg": tiny_config(quick_gelu=True), "preprocess_cfg": PREPROCESS}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="trained with QuickGELU"):
        model = open_clip.create_model(NAME, weights)
    assert model.visual.preprocess_cfg["resize_mode"] == "squash"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny_config()}))
    assert find_source(NAME, weights).preprocess_cfg == {}


def _write_openai_archive(path):
    """TorchScript as OpenAI wrote it: the weights, and three sizes beside them."""

    class Published(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for key, value in tiny_clip().state_dict().items():
                self.register_buffer(key.replace(".", "_"), value)
            self.register_buffer("input_resolution", torch.tensor(32))

        def forward(self, x):
            return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Published()), path)


def test_an_archive_of_openai_asks_for_quickgelu_and_nothing_else(tmp_path, caplog):
    path = tmp_path / "ViT-B-32.pt"
    _write_openai_archive(path)
    found = find_source(NAME, path)
    assert (found.preprocess_cfg, found.quick_gelu, caplog.records) == ({}, True, [])
    with pytest.warns(UserWarning, match="trained with QuickGELU.*force_quick_gelu=True"):
        source.warn_of_quick_gelu(NAME, found.model_cfg, found)


def test_damaged_metadata_is_refused(tmp_path):
    path = tmp_path / "damaged.safetensors"
    save_file(tiny_clip().state_dict(), path, {CONFIG_ENTRY: "{"})
    with pytest.raises(CheckpointError, match="open_clip_config.*cannot be used"):
        find_source(NAME, path)


def test_a_folder_ignores_a_tag_and_says_so(tmp_path, weights, caplog):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny_config()}))
    assert find_source(f"local-dir:{tmp_path}", "openai").weights_path == weights
    assert "is ignored" in caplog.text
