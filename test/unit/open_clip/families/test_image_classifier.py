"""An image tower with a head is a family like any: built, saved, loaded, locked and cut into layers by the factory."""

import json

import pytest
import torch

import open_clip
from open_clip.errors import ConfigError
from open_clip.families import find_family
from open_clip.families.image_classifier.model import ImageClassifier
from open_clip.push_to_hf_hub import save_for_hf
from tiny_models import tiny_config
from toy_families import added

CLASSES = ["cat", "dog", "red fox"]


def config(**changes):
    cfg = {key: value for key, value in tiny_config().items() if key in ("embed_dim", "vision_cfg")}
    return {"family": "image_classifier", **cfg, "classes": CLASSES, **changes}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "tiny-classifier.json"
    path.write_text(json.dumps(config()))
    with added(path):
        open_clip.add_model_config(path)
        yield open_clip.create_model("tiny-classifier")


def test_it_scores_classes_and_comes_back_from_its_folder(model, tmp_path):
    images = torch.rand(2, 3, 32, 32)
    assert isinstance(model, ImageClassifier)
    assert model.classes == tuple(CLASSES)
    scores = model.eval()(images)
    assert scores.shape == (2, 3)
    save_for_hf(model, None, config(), tmp_path / "saved")
    again, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'saved'}")
    assert torch.equal(again.eval()(images), scores)
    assert again.classes == model.classes
    assert transform is not None


def test_a_locked_tower_leaves_the_head_to_be_trained(model):
    model.lock_image_tower()
    assert {name for name, value in model.named_parameters() if value.requires_grad} == {"head.weight", "head.bias"}


def test_its_layers_are_the_towers(model):
    assert len(model.layer_groups()["image"]) == len(model.visual.layer_groups())


def test_a_head_on_a_tower_shares_it():
    tower = open_clip.create_model("ViT-micro-8-32").visual
    made = ImageClassifier.on_tower(tower, 32, CLASSES)
    assert made.visual is tower
    assert made(torch.rand(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"classes": []}, "classes must be a list"),
        ({"classes": ["cat", 3]}, "3, which is no name"),
        ({"vision_cfg": None}, "no vision_cfg"),
        ({"embed_dim": 10**12}, "embed_dim"),
        ({"text_cfg": {}}, "'text_cfg'"),
    ],
)
def test_a_configuration_that_cannot_be_is_told_before_anything_is_built(changes, told):
    with pytest.raises(ConfigError, match=told):
        find_family(config(**changes)).check(config(**changes))
