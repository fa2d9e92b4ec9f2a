"""A weights file says which model it holds, and is believed or contradicted aloud."""

import json
import logging

import pytest
import torch

import open_clip
from open_clip.checkpoint import CONFIG_ENTRY, read_state_dict, read_text_entries, write_safetensors
from open_clip.errors import CheckpointError, ConfigError
from open_clip.factory.description import describe_model
from open_clip.push_to_hf_hub import save_for_hf
from tiny_models import tiny_batch, tiny_config, write_config

NAME = "tiny-described"
OPTIONS = {
    "quick_gelu": {"force_quick_gelu": True},
    "custom_text": {"force_custom_text": True},
    "size": {"force_image_size": 48},
    "context": {"force_context_length": 12},
    "bias": {"init_logit_bias": -10.0},
    "mean": {"image_mean": (0.1, 0.2, 0.3), "image_std": (0.5, 0.25, 0.5)},
    "resizing": {"image_interpolation": "bilinear", "image_resize_mode": "squash"},
}
OPTIONS["all"] = {key: value for options in list(OPTIONS.values()) for key, value in options.items()}


@pytest.fixture(autouse=True)
def known_model(tmp_path):
    open_clip.add_model_config(write_config(tmp_path, NAME, tiny_config()))
    open_clip.add_model_config(write_config(tmp_path, f"{NAME}-other", tiny_config()))


def _make(name=NAME, pretrained=None, **options):
    torch.manual_seed(1)
    model, _, transform = open_clip.create_model_and_transforms(name, pretrained, **options)
    return model.eval(), transform


def _answers(model):
    size = model.visual.image_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    images, texts = tiny_batch(2, model.context_length, size)
    with torch.no_grad():
        return [*model(images, texts)]


def _save(model, path):
    torch.save({"epoch": 1, "state_dict": model.state_dict(), CONFIG_ENTRY: describe_model(model)}, path)
    return path


def _assert_same(model, transform, other, other_transform):
    assert all(torch.equal(one, two) for one, two in zip(_answers(model), _answers(other), strict=True))
    assert repr(transform) == repr(other_transform)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", OPTIONS)
def test_a_file_brings_along_what_options_had_changed(tmp_path, caplog, kind):
    model, transform = _make(**OPTIONS[kind])
    path = _save(model, tmp_path / "trained.pt")
    exported = tmp_path / "exported.safetensors"
    write_safetensors(read_state_dict(path), exported, read_text_entries(path))
    caplog.clear()
    for file in (path, exported):
        _assert_same(model, transform, *_make(pretrained=file))
    _assert_same(model, transform, *_make(pretrained=path, **OPTIONS[kind]))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_folder_says_what_options_had_changed(tmp_path, caplog, kind):
    model, transform = _make(**OPTIONS[kind])
    with caplog.at_level(logging.WARNING):
        save_for_hf(model, open_clip.get_tokenizer(NAME), open_clip.get_model_config(NAME), tmp_path / "folder")
    _assert_same(model, transform, *_make(f"local-dir:{tmp_path / 'folder'}"))
    assert ("its own are written" in caplog.text) == (kind not in ("mean", "resizing"))


def test_what_the_caller_says_wins_and_the_difference_is_named(tmp_path, caplog):
    path = _save(_make(force_image_size=48, image_mean=(0.1, 0.1, 0.1))[0], tmp_path / "trained.pt")
    model, transform = _make(pretrained=path, force_image_size=32, image_mean=(0.5, 0.5, 0.5))
    assert model.visual.image_size == (32, 32)
    assert tuple(model.visual.image_mean) == (0.5, 0.5, 0.5)
    assert "vision_cfg.image_size was 48 and is 32" in caplog.text
    assert "mean was [0.1, 0.1, 0.1] and is [0.5, 0.5, 0.5]" in caplog.text
    plain = _save(_make()[0], tmp_path / "plain.pt")
    with pytest.warns(UserWarning, match="trained with GELU and the model is built with QuickGELU"):
        _make(pretrained=plain, force_quick_gelu=True)


def test_the_name_of_another_model_is_the_callers_word(tmp_path, caplog):
    path = _save(_make(force_image_size=48)[0], tmp_path / "trained.pt")
    assert _make(f"{NAME}-other", path)[0].visual.image_size == (32, 32)
    assert "vision_cfg.image_size was 48 and is 32" in caplog.text
    biased = _save(_make(init_logit_bias=-10.0)[0], tmp_path / "biased.pt")
    with pytest.raises(CheckpointError, match=f"it holds a model of {NAME} .*init_logit_bias was -10.0 and is null"):
        _make(f"{NAME}-other", biased)


def test_a_file_loaded_into_a_finished_model_is_compared_too(tmp_path, caplog):
    path = _save(_make(image_mean=(0.1, 0.1, 0.1))[0], tmp_path / "trained.pt")
    model = _make()[0]
    caplog.clear()
    open_clip.load_checkpoint(model, path)
    assert "mean was [0.1, 0.1, 0.1]" in caplog.text


def test_what_only_training_sees_is_not_brought_along(tmp_path, caplog):
    path = _save(_make(force_patch_dropout=0.5)[0], tmp_path / "trained.pt")
    caplog.clear()
    model = _make(pretrained=path)[0]
    assert model.origin.model_cfg["vision_cfg"].get("patch_dropout", 0.0) == 0.0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_file_named_beside_a_folder_wins(tmp_path):
    folder = tmp_path / "folder"
    save_for_hf(_make()[0], open_clip.get_tokenizer(NAME), open_clip.get_model_config(NAME), folder)
    other = _make()[0]
    with torch.no_grad():
        other.visual.proj += 1
    path = tmp_path / "weights.pt"
    torch.save(other.state_dict(), path)
    found = open_clip.create_model(f"local-dir:{folder}", pretrained=str(path))
    assert torch.equal(found.visual.proj, other.visual.proj)
    with pytest.raises(CheckpointError, match=r"no such weights file"):
        open_clip.create_model(f"local-dir:{folder}", pretrained=str(tmp_path / "weight.pt"))


@pytest.mark.parametrize(
    "entry, says",
    [
        (5, "it is 5"),
        ("[]", r"it is \[\]"),
        ("{", "cannot be used"),
        ("[" * 10_000, "nested deeper"),
        (json.dumps({"model_cfg": tiny_config(vision={"layers": 1e29})}), "vision_cfg.layers is 1e"),
        (json.dumps({"preprocess_cfg": {"std": [0, 0, 0]}}), "preprocess_cfg.std is"),
        (json.dumps({"model": ["x"]}), "model is"),
    ],
)
def test_an_entry_that_cannot_be_is_refused_before_anything_is_built(tmp_path, entry, says):
    path = tmp_path / "trained.pt"
    torch.save({"state_dict": _make()[0].state_dict(), CONFIG_ENTRY: entry}, path)
    with pytest.raises(CheckpointError, match=says) as caught:
        _make(pretrained=path)
    assert not isinstance(caught.value, ConfigError)
    assert str(path) in str(caught.value)


def test_random_weights_are_named_and_only_where_they_are_not_asked_for(tmp_path, caplog):
    path = _save(_make()[0], tmp_path / "trained.pt")
    assert "has random weights" in caplog.text
    caplog.clear()
    _make(pretrained=path)
    _make(load_weights=False)
    assert "random weights" not in caplog.text
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "open_clip_config.json").write_text(json.dumps({"model_cfg": tiny_config()}))
    _make(f"local-dir:{tmp_path / 'empty'}")
    assert "has random weights" in caplog.text
