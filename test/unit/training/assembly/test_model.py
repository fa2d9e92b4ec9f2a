"""The trainer makes the model of a family that it never heard of."""

import pytest
import torch

from open_clip.errors import ConfigError
from toy_families import ImageFamily, added
from training.assembly.model import build_model, fit_text_length
from training.params import RunParams, parse_args


def run_params(*flags):
    return RunParams.from_namespace(parse_args(["--train-data", "pairs.csv", "--model", "toy", *flags]))


def build(params):
    return build_model(params, "fp32", torch.device("cpu"), {})


@pytest.fixture(autouse=True)
def toy(tmp_path):
    with added(tmp_path / "toy.json") as add:
        add(ImageFamily(), {"width": 6})
        yield


def test_a_model_without_texts_is_built_and_its_image_tower_locked():
    params = run_params("--lock-image", "--lock-image-unlocked-groups", "1")
    model, _, _ = build(params)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "visual.head.weight",
        "visual.head.bias",
    }
    assert fit_text_length(params, model).model.force_context_length is None


def test_a_tower_that_is_not_there_cannot_be_locked():
    with pytest.raises(ConfigError, match="--lock-text: this model has no text tower"):
        build(run_params("--lock-text"))


def test_a_model_that_cannot_compute_activations_again_is_not_asked_to():
    with pytest.raises(ConfigError, match="--grad-checkpointing: this model cannot compute activations again"):
        build(run_params("--grad-checkpointing"))
