"""Weights of other sizes and of older and sibling layouts become the very tensors that upstream makes of them."""

import importlib.util
import json

import numpy as np
import pytest
import torch

import open_clip
import peer
from tiny_models import tiny_coca_config, tiny_config, write_config

pytestmark = peer.needs_peer

# file, model, options of create_model
CASES = {
    "image_larger": ("plain", "fit", {"force_image_size": 56}),
    "image_smaller": ("plain", "fit", {"force_image_size": 16}),
    "image_tall": ("plain", "fit", {"force_image_size": [64, 16]}),
    "image_wide": ("plain", "fit", {"force_image_size": [24, 72]}),
    "image_as_many_patches": ("plain", "fit", {"force_image_size": [16, 64]}),
    "text_longer": ("plain", "fit", {"force_context_length": 29}),
    "text_shorter": ("plain", "fit", {"force_context_length": 9}),
    "both_in_custom_text": (
        "plain",
        "fit",
        {"force_custom_text": True, "force_image_size": 40, "force_context_length": 21},
    ),
    "custom_text_longer": ("custom", "fit_custom", {"force_context_length": 33}),
    "half_weights": ("half", "fit", {}),
    "scale_to_list": ("plain", "fit", {"nonscalar_logit_scale": True}),
    "scale_from_list": ("listed", "fit", {}),
    "scale_from_list_with_bias": ("listed", "fit", {"init_logit_bias": -10}),
    "bias_missing": ("plain", "fit", {"init_logit_bias": -10}),
    "bias_missing_in_custom_text": ("custom", "fit_custom", {"init_logit_bias": -10}),
    "bias_kept": ("biased", "fit", {"init_logit_bias": -10}),
    "old_text_keys": ("plain", "fit", {"force_custom_text": True}),
    "prefix": ("prefixed", "fit", {}),
    "prefix_in_a_checkpoint": ("trainer", "fit", {"force_custom_text": True, "force_image_size": 24}),
    "position_ids": ("position_ids", "fit_custom", {}),
    "coca_resized": ("coca", "fit_coca", {"force_image_size": 48, "force_context_length": 21}),
    "coca_shorter": ("coca", "fit_coca", {"force_context_length": 9}),
    "pooled_without_class_token": ("averaged", "fit_averaged", {"force_image_size": [40, 24]}),
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("fitting_script", peer.SCRIPTS / "foreign_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitting")
    configs = folder / "configs"
    configs.mkdir()
    write_config(configs, "fit", tiny_config())
    write_config(configs, "fit_custom", tiny_config(custom_text=True))
    write_config(configs, "fit_coca", tiny_coca_config())
    averaged = {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}
    write_config(configs, "fit_averaged", tiny_config(vision=averaged))
    open_clip.add_model_config(configs)
    return folder


def _draw(name, seed):
    torch.manual_seed(seed)
    state = open_clip.create_model(name).state_dict()
    return {key: value + torch.randn(value.shape) * 0.05 for key, value in state.items()}


@pytest.fixture(scope="module")
def files(folder):
    plain, custom = _draw("fit", 61), _draw("fit_custom", 67)
    listed = plain | {"logit_scale": plain["logit_scale"].reshape(1)}
    prefixed = {f"module.{key}": value for key, value in plain.items()}
    contents = {
        "plain": plain,
        "custom": custom,
        "half": {key: value.half() for key, value in plain.items()},
        "listed": listed,
        "biased": plain | {"logit_bias": torch.tensor(-3.25)},
        "prefixed": prefixed,
        "trainer": {"epoch": 2, "name": "run", "state_dict": prefixed},
        "position_ids": custom | {"text.transformer.embeddings.position_ids": torch.arange(16)[None]},
        "coca": _draw("fit_coca", 71),
        "averaged": _draw("fit_averaged", 73),
    }
    for name, content in contents.items():
        torch.save(content, folder / f"{name}.pt")
    return {label: (model, str(folder / f"{name}.pt"), options) for label, (name, model, options) in CASES.items()}


@pytest.fixture(scope="module")
def theirs(folder, files):
    request = {"folder": str(folder / "configs"), "towers": [], "cases": files}
    return peer.run_peer("foreign_weights", request, folder)


@pytest.mark.parametrize("label", CASES)
def test_every_tensor_is_the_one_that_upstream_makes(theirs, files, script, label):
    weights, features = script.answer(*files[label])
    assert json.loads(weights.tobytes()) == json.loads(theirs[f"{label} weights"].tobytes())
    np.testing.assert_allclose(features, theirs[f"{label} features"], atol=1e-6)
