import json

import pytest
import torch

import open_clip
from extras import needs_timm
from open_clip.convert import to_transformers
from open_clip.errors import CheckpointError
from open_clip.factory.nearest import describe_shapes
from tiny_models import tiny_clip, tiny_config, write_config

VIT = {f"visual.transformer.resblocks.{index}.ln_1.weight": (768,) for index in range(12)}
VIT |= {"visual.class_embedding": (768,), "visual.conv1.weight": (768, 3, 32, 32), "visual.proj": (768, 512)}
VIT |= {"visual.positional_embedding": (50, 768), "logit_scale": ()}
TEXT = {f"transformer.resblocks.{index}.ln_1.weight": (512,) for index in range(12)}
TEXT |= {"token_embedding.weight": (49408, 512), "text_projection": (512, 512), "positional_embedding": (77, 512)}


@pytest.fixture
def tiny(tmp_path):
    open_clip.add_model_config(write_config(tmp_path, "tiny-nearest", tiny_config()))
    return "tiny-nearest"


def _save(folder, weights):
    torch.save(weights, folder / "weights.pt")
    return str(folder / "weights.pt")


def _drawn(weights):
    """Weights of the same names and shapes that load as they are."""
    return {name: torch.rand_like(value) for name, value in weights.items()}


def test_models_of_the_same_shapes_are_named_those_of_the_same_sizes_first():
    said = describe_shapes(VIT | TEXT)
    assert said.startswith("Their shapes are those of ")
    assert "ViT-B-32," in said
    assert "ViT-B-32-256" not in said
    assert "ViT-B-32-256" in describe_shapes(VIT | TEXT | {"visual.positional_embedding": (65, 768)})


def test_a_custom_text_layout_and_a_resnet_are_told_too():
    assert "ViT-B-32," in describe_shapes(VIT | {f"text.{name}": shape for name, shape in TEXT.items()})
    resnet = {
        f"visual.layer{stage}.{block}.conv1.weight": (64, 64, 1, 1)
        for stage, count in enumerate((3, 4, 6, 3), start=1)
        for block in range(count)
    }
    heads = {f"{name}": shape for name, shape in TEXT.items()} | {"text_projection": (512, 1024)}
    assert "RN50," in describe_shapes(resnet | heads) + ","


def test_shapes_of_no_model_are_written_out():
    said = describe_shapes(VIT | TEXT | {"token_embedding.weight": (21128, 512)})
    assert "No model known here" in said
    assert "patches of 32" in said
    assert "words 21128" in said


def test_weights_of_another_model_are_answered_with_its_name(tiny, tmp_path):
    open_clip.add_model_config(write_config(tmp_path, "tiny-nearest-wide", tiny_config({"width": 96}, {"width": 96})))
    path = _save(tmp_path, open_clip.create_model("tiny-nearest-wide").state_dict())
    with pytest.raises(CheckpointError, match=r"(?s)do not fit.*Their shapes are those of tiny-nearest-wide\."):
        open_clip.create_model(tiny, path)


@pytest.mark.parametrize("wrapped", ["{}", "module.{}", "model.{}", "net.clip.{}", "module._orig_mod.{}"])
@pytest.mark.parametrize("container", [None, "state_dict", "model"])
def test_what_trainers_put_around_weights_is_taken_off(tiny, tmp_path, wrapped, container):
    weights = _drawn(tiny_clip().state_dict())
    named = {wrapped.format(name): value for name, value in weights.items()}
    path = _save(tmp_path, named if container is None else {container: named, "epoch": 3})
    loaded = open_clip.create_model(tiny, path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in weights.items())


def test_a_prefix_that_not_all_names_have_stays(tiny, tmp_path):
    weights = {f"model.{name}": value for name, value in tiny_clip().state_dict().items()} | {"queue": torch.zeros(2)}
    with pytest.raises(CheckpointError, match="unknown to the model"):
        open_clip.create_model(tiny, _save(tmp_path, weights))


@pytest.mark.parametrize("custom", [False, True])
def test_weights_in_the_layout_of_transformers_load(tiny, tmp_path, custom):
    weights = _drawn(tiny_clip().state_dict())
    theirs, _ = to_transformers(weights, tiny_config())
    ids = {f"{side}_model.embeddings.position_ids": torch.arange(16)[None] for side in ("text", "vision")}
    loaded = open_clip.create_model(tiny, _save(tmp_path, theirs | ids), force_custom_text=custom).state_dict()
    prefix = "text." if custom else ""
    assert torch.equal(loaded["visual.proj"], weights["visual.proj"])
    assert torch.equal(loaded[f"{prefix}token_embedding.weight"], weights["token_embedding.weight"])


@pytest.mark.parametrize("act, warns", [("quick_gelu", True), ("gelu", False)])
def test_their_config_beside_them_tells_the_activation(tiny, tmp_path, act, warns, recwarn):
    theirs, config = to_transformers(tiny_clip().state_dict(), tiny_config())
    config["text_config"]["hidden_act"] = act
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"} | config))
    open_clip.create_model(tiny, _save(tmp_path, theirs))
    assert any("QuickGELU mismatch" in str(warning.message) for warning in recwarn) is warns


@pytest.mark.parametrize(
    "names, said",
    [
        (["bert.embeddings.word_embeddings.weight", "visual.proj"], "Chinese-CLIP"),
        (["vision_model.head.probe", "text_model.head.weight"], "SigLIP in transformers"),
        (["vision_model.embeddings.class_embedding"], "not of a whole plain CLIPModel"),
        (["roberta.embeddings.word_embeddings.weight"], "text encoder of BERT's family"),
        (["cls_token", "pos_embed", "blocks.0.attn.qkv.weight"], "a timm ViT"),
        (["conv1.weight", "layer1.0.conv1.weight", "fc.weight"], "a ResNet of timm or torchvision"),
        (["stages.0.blocks.0.conv_dw.weight", "head.fc.weight"], "an image network of timm"),
        (["base_model.model.visual.lora_A.weight"], "a LoRA adapter"),
    ],
)
def test_known_weights_of_others_are_named(tiny, tmp_path, names, said):
    path = _save(tmp_path, {name: torch.zeros(1) for name in names})
    with pytest.raises(CheckpointError, match=said):
        open_clip.create_model(tiny, path)


def test_a_text_tower_of_its_own_names_the_option(tiny, tmp_path):
    with pytest.raises(CheckpointError, match="force_custom_text"):
        open_clip.create_model(tiny, _save(tmp_path, tiny_clip(custom_text=True).state_dict()))


class TestTimm:
    pytestmark = needs_timm

    def test_a_file_of_timms_loads_as_the_image_tower(self, tmp_path):
        import timm

        vision = {"timm_model_name": "test_vit", "image_size": 160, "timm_pool": "", "timm_proj": "linear"}
        config = tiny_config() | {"vision_cfg": vision}
        open_clip.add_model_config(write_config(tmp_path, "tiny-timm-file", config))
        network = timm.create_model("test_vit")
        path = _save(tmp_path, network.state_dict())
        trunk = open_clip.create_model("tiny-timm-file", pretrained_image_path=path).visual.trunk
        assert torch.equal(trunk.patch_embed.proj.weight, network.patch_embed.proj.weight)
        assert torch.equal(trunk.blocks[0].attn.qkv.weight, network.blocks[0].attn.qkv.weight)
