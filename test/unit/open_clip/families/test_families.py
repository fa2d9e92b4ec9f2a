"""A family is added without touching another file: in a program, or as a folder of the package."""

import sys
from argparse import Namespace

import pytest
import torch

import open_clip
from open_clip import families
from open_clip.errors import ConfigError
from open_clip.factory.description import describe_model
from open_clip.loss import ClipLoss
from open_clip.protocols import (
    EncodesImages,
    EncodesTexts,
    GivesImageTokens,
    HasLayerGroups,
    LocksImages,
    LocksTexts,
    TwoEncoders,
    WritesCaptions,
)
from tiny_models import tiny_clip, tiny_coca, tiny_config
from toy_families import ImageFamily, ImageOnly, TextFamily, TextOnly, ThreeFamily, added
from training.optim.groups import layer_scales

ARGS = {"distill": False, "siglip": False, "local_loss": False, "gather_with_grad": True, "rank": 0, "world_size": 1}


@pytest.fixture
def add(tmp_path):
    """Add a family and a model of it, for one test."""
    with added(tmp_path / "toy.json") as add:
        yield add


def test_a_family_without_texts_is_created_saved_and_loaded(add, tmp_path):
    add(ImageFamily(), {"width": 6})
    model = open_clip.create_model("toy", depth_scale=2.0)
    assert type(model) is ImageOnly
    assert (model.depth_scale, model.origin.model_cfg["family"]) == (2.0, "image_only")
    entry = describe_model(model)
    torch.save({"state_dict": model.state_dict(), "open_clip_config": entry}, tmp_path / "toy.pt")
    loaded, _, transform = open_clip.create_model_and_transforms("toy", str(tmp_path / "toy.pt"))
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(loaded.encode_image(image) * 2, model.encode_image(image))
    assert isinstance(open_clip.create_loss(Namespace(model="toy", **ARGS), model), ClipLoss)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_family_without_images_is_created_and_casts_as_others_do(add, precision):
    add(TextFamily(), {"width": 6})
    model, _, _ = open_clip.create_model_and_transforms("toy", precision=precision)
    assert type(model) is TextOnly
    features = model.encode_text(torch.tensor([[1, 2], [3, 4]]), normalize=True)
    assert features.float().norm(dim=1).tolist() == pytest.approx([1.0, 1.0], abs=1e-2)


def test_a_file_says_which_setting_of_the_family_is_another_now(add, tmp_path, caplog):
    add(ImageFamily(), {"width": 6})
    model = open_clip.create_model("toy", depth_scale=2.0)
    torch.save({"state_dict": model.state_dict(), "open_clip_config": describe_model(model)}, tmp_path / "toy.pt")
    open_clip.create_model("toy", str(tmp_path / "toy.pt"), depth_scale=3.0)
    assert "depth_scale was 2.0 and is 3.0" in caplog.text


def test_the_familys_own_conversion_reads_foreign_weights(add, tmp_path):
    add(ImageFamily(), {"width": 6})
    model = open_clip.create_model("toy")
    foreign = {key.replace("visual.", "backbone."): value for key, value in model.state_dict().items()}
    torch.save(foreign, tmp_path / "foreign.pt")
    loaded = open_clip.create_model("toy", str(tmp_path / "foreign.pt"))
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_towers_own_file_is_converted_by_the_family_too(add, tmp_path):
    add(ImageFamily(), {"width": 6})
    model = open_clip.create_model("toy")
    foreign = {key.replace("visual.", "backbone."): value for key, value in model.state_dict().items()}
    torch.save(foreign, tmp_path / "foreign.pt")
    loaded = open_clip.create_model("toy", pretrained_image_path=str(tmp_path / "foreign.pt"))
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())


def test_layers_are_frozen_and_scaled_as_the_family_groups_them(add):
    add(ThreeFamily(), {"width": 6, "words": 20})
    model = open_clip.create_model("toy")
    model.lock_image_tower(unlocked_groups=1)
    assert {name for name, p in model.visual.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    scales = layer_scales(model, 0.5, 0.1)
    assert (scales["visual.stem.weight"], scales["visual.head.weight"], scales["words.weight"]) == (0.25, 1.0, 1.0)
    assert "second.stem.weight" not in scales
    assert isinstance(model, TwoEncoders)
    assert model.encode_second(torch.rand(1, 3, 8, 8)).shape == (1, 6)


def test_what_the_family_lacks_is_refused_by_name(add):
    add(ImageFamily(), {"width": 6})
    with pytest.raises(ConfigError, match="image_only take no texts"):
        open_clip.get_tokenizer("toy")
    with pytest.raises(ConfigError, match=r"force_context_length=16: models of the family image_only"):
        open_clip.create_model("toy", force_context_length=16)
    with pytest.raises(ConfigError, match="no model takes 'widdth'"):
        open_clip.create_model("toy", widdth=3)


def test_an_unknown_key_and_an_unknown_family_are_refused_with_the_nearest(add):
    add(ImageFamily(), {"widdth": 6})
    with pytest.raises(ConfigError, match=r"toy.json: models of the family image_only have no 'widdth'.*width"):
        open_clip.create_model("toy")
    with pytest.raises(ConfigError, match=r"here: family is 'image_onyl'.*image_only"):
        families.check_model_cfg({"family": "image_onyl"}, "here")
    with pytest.raises(ConfigError, match="family is 3"):
        families.find_family({"family": 3})


def test_two_families_cannot_have_one_name(add):
    class Other(ImageFamily):
        name = "clip"

    with pytest.raises(ConfigError, match="a family clip already"):
        families.register(Other())


def test_a_folder_of_the_package_is_a_family(monkeypatch, tmp_path):
    folder = tmp_path / "toy_folder"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from torch import nn\n"
        "from open_clip.families.base import Family\n"
        "class Toy(nn.Module):\n"
        "    def __init__(self, width):\n"
        "        super().__init__()\n"
        "        self.visual = nn.Linear(width, width)\n"
        "class ToyFamily(Family):\n"
        "    name, model_class = 'toy_folder', Toy\n"
        "FAMILY = ToyFamily()\n"
    )
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    try:
        assert "toy_folder" in families.list_families()
        model = families.find_family({"family": "toy_folder"}).build({"family": "toy_folder", "width": 3}, None)
        assert model.visual.weight.shape == (3, 3)
        assert families.family_of(model).name == "toy_folder"
    finally:
        sys.modules.pop("open_clip.families.toy_folder", None)


def test_the_three_are_told_as_upstream_tells_them_and_by_name():
    plain = tiny_config()
    told = [plain, plain | {"custom_text": True}, {**plain, "text_cfg": {"hf_model_name": "x"}}]
    assert [families.find_family(cfg).name for cfg in told] == ["clip", "custom_text", "custom_text"]
    assert families.find_family(plain | {"multimodal_cfg": {}}).name == "coca"
    assert families.find_family(plain | {"family": "custom_text"}).name == "custom_text"
    assert [families.family_of(model).name for model in (tiny_clip(), tiny_clip(custom_text=True), tiny_coca())] == [
        "clip",
        "custom_text",
        "coca",
    ]


def test_a_family_named_in_the_configuration_is_built(tmp_path, monkeypatch):
    registry = open_clip.factory.names.model_registry()
    monkeypatch.setitem(registry, "named", tiny_config() | {"family": "custom_text"})
    model = open_clip.create_model("named")
    assert type(model) is open_clip.CustomTextCLIP
    monkeypatch.setitem(registry, "named", tiny_config() | {"family": "clip"})
    assert type(open_clip.create_model("named", force_custom_text=True)) is open_clip.CustomTextCLIP
    assert type(open_clip.create_model("named")) is open_clip.CLIP


def test_models_say_what_they_can_do():
    clip, coca, image = tiny_clip(), tiny_coca(), ImageOnly(4)
    everywhere = (EncodesImages, HasLayerGroups, LocksImages)
    assert all(isinstance(model, kind) for model in (clip, coca, image) for kind in everywhere)
    assert all(isinstance(model, kind) for model in (clip, coca) for kind in (TwoEncoders, LocksTexts, EncodesTexts))
    assert not isinstance(image, EncodesTexts)
    assert [isinstance(model, WritesCaptions) for model in (clip, coca, image)] == [False, True, False]
    assert not isinstance(image, GivesImageTokens)


def test_image_tokens_are_those_that_the_last_norm_leaves():
    model = tiny_clip()
    seen = []
    model.visual.ln_post.register_forward_hook(lambda *args: seen.append(args[2]))
    tokens = model.encode_image_tokens(torch.rand(2, 3, 32, 32))
    assert tokens.shape == (2, 16, 64)
    assert torch.equal(tokens, seen[-1][:, -16:])
