import pytest
import torch
from torch.testing import assert_close

import open_clip
from open_clip.convert import from_transformers, to_transformers
from open_clip.errors import ConfigError
from tiny_models import tiny_batch, tiny_clip, tiny_config

CONFIGS = [
    tiny_config(),
    tiny_config({"mlp_ratio": 3.5}, {"width": 96, "heads": 3, "norm_kwargs": {"eps": 1e-6}}, quick_gelu=True),
    tiny_config(None, {"pool_type": "eos", "eos_id": 77}),
]


def build(config):
    torch.manual_seed(2)
    return open_clip.CLIP(**config).eval()


@pytest.mark.parametrize("config", CONFIGS)
def test_there_and_back_is_the_same_model(config):
    model = build(config)
    weights, back_cfg = from_transformers(*to_transformers(model.state_dict(), config))
    again = open_clip.CLIP(**back_cfg).eval()
    again.load_state_dict(weights)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    images, texts = tiny_batch()
    texts[:, 3] = 77
    assert all(torch.equal(one, two) for one, two in zip(model(images, texts), again(images, texts), strict=True))


def test_a_text_tower_of_its_own_is_converted_too():
    expected, _ = to_transformers(tiny_clip().state_dict(), tiny_config())
    found, _ = to_transformers(tiny_clip(custom_text=True).state_dict(), tiny_config())
    assert found.keys() == expected.keys()


@pytest.mark.parametrize(
    "config, said",
    [
        (tiny_config({"attentional_pool": True}), "vision_cfg has attentional_pool"),
        (tiny_config(None, {"hf_model_name": "x"}), "text_cfg has hf_model_name"),
        (tiny_config({"layers": [1, 1, 1, 1]}), "only models with a ViT"),
        (tiny_config(None, {"pool_type": "last"}), "only models with a ViT"),
    ],
)
def test_what_transformers_has_no_place_for_is_refused(config, said):
    with pytest.raises(ConfigError, match=said):
        to_transformers(tiny_clip().state_dict(), config)


def test_weights_that_are_no_plain_clip_are_refused():
    weights, config = to_transformers(tiny_clip().state_dict(), tiny_config())
    with pytest.raises(ConfigError, match="'logit_scale' is missing"):
        from_transformers({key: value for key, value in weights.items() if key != "logit_scale"}, config)
    with pytest.raises(ConfigError, match="'qformer.x' is no part"):
        from_transformers(weights | {"qformer.x": torch.ones(1)}, config)
    with pytest.raises(ConfigError, match="no place for 'logit_bias'"):
        to_transformers(tiny_clip().state_dict() | {"logit_bias": torch.ones(1)}, tiny_config())
    config["text_config"]["hidden_act"] = "relu"
    with pytest.raises(ConfigError, match="hidden_act"):
        from_transformers(weights, config)


def theirs_and_ours(theirs, ours):
    images, texts = tiny_batch()
    texts[:, 6:] = 0
    texts[:, 6] = 77
    with torch.no_grad():
        answer = theirs(input_ids=texts, pixel_values=images)
        image, text, scale = ours(images, texts)
    assert_close(answer.image_embeds, image, atol=1e-5, rtol=0)
    assert_close(answer.text_embeds, text, atol=1e-5, rtol=0)
    assert_close(answer.logits_per_image, scale * image @ text.T, atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", CONFIGS)
def test_transformers_computes_the_same_from_our_weights(config):
    transformers = pytest.importorskip("transformers", reason="transformers (extra hf) is not installed")
    ours = build(config)
    weights, hf_config = to_transformers(ours.state_dict(), config)
    theirs = transformers.CLIPModel(transformers.CLIPConfig(**hf_config)).eval()
    theirs.load_state_dict(weights)
    theirs_and_ours(theirs, ours)


@pytest.mark.parametrize("eos_id", [2, 77, 599])
@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
def test_we_compute_the_same_from_weights_of_transformers(act, eos_id):
    transformers = pytest.importorskip("transformers", reason="transformers (extra hf) is not installed")
    tower = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": act, "layer_norm_eps": 1e-6}
    text = {"vocab_size": 600, "max_position_embeddings": 16, "hidden_size": 64, "intermediate_size": 100}
    vision = {"image_size": 32, "patch_size": 8, "hidden_size": 96, "intermediate_size": 200}
    config = transformers.CLIPConfig(
        text_config=text | tower | {"eos_token_id": eos_id}, vision_config=vision | tower, projection_dim=48
    )
    torch.manual_seed(3)
    theirs = transformers.CLIPModel(config).eval()
    weights, model_cfg = from_transformers(theirs.state_dict(), config)
    ours = open_clip.CLIP(**model_cfg).eval()
    ours.load_state_dict(weights)
    theirs_and_ours(theirs, ours)
