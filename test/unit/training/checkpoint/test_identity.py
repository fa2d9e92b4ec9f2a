"""A checkpoint goes back only into the model it was saved from."""

from pathlib import Path

import pytest

import open_clip
from open_clip.checkpoint import CONFIG_ENTRY
from open_clip.errors import CheckpointError, ConfigError
from open_clip.factory.description import describe_model
from training.checkpoint import restore_weights
from training.checkpoint.identity import describe_recipe, refuse_other_recipe
from training.params.by_path import hash_file

PATH = Path("run/epoch_1.pt")


def _make(**options):
    return open_clip.create_model_and_transforms("ViT-micro-8-32", load_weights=False, **options)[0]


def _payload(model, recipe="clip"):
    entry = describe_model(model, {"name": recipe})
    return {"epoch": 1, "state_dict": model.state_dict(), CONFIG_ENTRY: entry}


@pytest.mark.parametrize(
    "options, says",
    [
        ({"force_quick_gelu": True}, r"quick_gelu was true and is false \(--force-quick-gelu\)"),
        ({"force_custom_text": True}, r"custom_text was true and is false \(--force-custom-text\)"),
        ({"force_image_size": 48}, r"image_size was 48 and is 32 \(--force-image-size\)"),
        ({"force_context_length": 12}, r"context_length was 12 and is 16 \(--force-context-length\)"),
        ({"init_logit_bias": -10.0}, r"init_logit_bias was -10.0 and is null \(--siglip\)"),
        ({"image_mean": (0.1, 0.2, 0.3)}, r"mean was \[0.1, 0.2, 0.3\] and is .* \(--image-mean\)"),
        ({"image_std": (0.1, 0.2, 0.3)}, r"std was .* \(--image-std\)"),
        ({"image_interpolation": "bilinear"}, r"interpolation was 'bilinear' .* \(--image-interpolation\)"),
        ({"image_resize_mode": "squash"}, r"resize_mode was 'squash' .* \(--image-resize-mode\)"),
    ],
)
def test_other_settings_are_refused_with_their_flags(options, says):
    payload = _payload(_make(**options))
    with pytest.raises(ConfigError, match=f"epoch_1.pt: was saved with other settings.*{says}"):
        restore_weights(_make(), payload, PATH)
    restore_weights(_make(**options), payload, PATH)


def test_files_that_say_nothing_go_back_as_before():
    payload = _payload(_make())
    del payload[CONFIG_ENTRY]
    restore_weights(_make(image_mean=(0.1, 0.2, 0.3)), payload, PATH)


def test_a_damaged_entry_is_a_damaged_checkpoint():
    with pytest.raises(CheckpointError, match=r"epoch_1\.pt: its entry 'open_clip_config'"):
        restore_weights(_make(), _payload(_make()) | {CONFIG_ENTRY: [1]}, PATH)


def test_another_recipe_is_refused_and_another_dropout_named(caplog):
    payload = _payload(_make(force_patch_dropout=0.5), "siglip")
    with pytest.raises(ConfigError, match="trained with the recipe siglip and this run has clip .--task, --siglip"):
        refuse_other_recipe({"name": "clip"}, _make(), payload, PATH)
    refuse_other_recipe({"name": "siglip"}, _make(), payload, PATH)
    assert "patch_dropout was 0.5 and is 0.0 (--force-patch-dropout)" in caplog.text


def test_an_edited_file_of_a_recipe_is_named(tmp_path, caplog):
    file, word = tmp_path / "mine.py", f"{tmp_path / 'mine.py'}:Mine"
    file.write_text("one = 1\n")
    was = describe_recipe("mine", "fp32", word)
    file.write_text("one = 2\n")
    assert describe_recipe("mine", "fp32", word) == was  # what runs is what was read first
    hash_file.cache_clear()
    payload = {CONFIG_ENTRY: describe_model(_make(), was)}
    refuse_other_recipe(was, _make(), payload, PATH)
    assert not caplog.text
    refuse_other_recipe(describe_recipe("mine", "fp32", word), _make(), payload, PATH)
    assert "epoch_1.pt: the file of the recipe mine was another one" in caplog.text
