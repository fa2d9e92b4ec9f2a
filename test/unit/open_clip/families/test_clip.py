import math

import pytest
import torch

from open_clip.errors import ConfigError
from tiny_models import tiny_batch, tiny_clip


@pytest.mark.parametrize("custom_text", [False, True])
def test_forward_gives_normalised_features_and_the_scale(custom_text):
    model = tiny_clip(custom_text=custom_text)
    image_features, text_features, scale = model(*tiny_batch())
    torch.testing.assert_close(image_features.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(text_features.norm(dim=-1), torch.ones(3))
    assert scale.item() == pytest.approx(1 / 0.07)
    assert scale.shape == ()


def test_a_bias_is_a_fourth_item_and_a_key_of_the_dict():
    model = tiny_clip(init_logit_bias=-10.0, nonscalar_logit_scale=True)
    *_, bias = model(*tiny_batch())
    assert bias is model.logit_bias
    assert bias.shape == (1,)
    model.output_dict = True
    assert list(model(*tiny_batch())) == ["image_features", "text_features", "logit_scale", "logit_bias"]


def test_a_missing_input_gives_none_in_its_place():
    image, text = tiny_batch()
    model = tiny_clip(output_dict=True)
    assert model(image=image)["text_features"] is None
    assert model(text=text)["image_features"] is None


def test_logits_hold_scale_and_bias():
    model, (image, text) = tiny_clip(init_logit_bias=-3.0), tiny_batch()
    per_image, per_text = model.get_logits(image, text)
    expected = model.encode_image(image, True) @ model.encode_text(text, True).T / 0.07 - 3.0
    torch.testing.assert_close(per_image, expected)
    assert torch.equal(per_text, per_image.T)


def test_logits_per_text_are_those_per_image_turned_round_with_several_vectors_an_image():
    pool = {"attentional_pool": "parallel", "attn_pooler_queries": 5, "attn_pooler_heads": 2}
    model = tiny_clip(vision=pool)
    image, text = tiny_batch()
    per_image, per_text = model.get_logits(image[:2], text)
    assert per_image.shape == (2, 1, 3)
    assert per_text.shape == (3, 1, 2)
    torch.testing.assert_close(per_text[:, 0], per_image[:, 0].T)


@pytest.mark.parametrize("custom_text", [False, True])
def test_short_texts_are_encoded_as_padded_ones(custom_text):
    model, (_, text) = tiny_clip(custom_text=custom_text), tiny_batch()
    short, padded = (model.encode_text(tokens, normalize=True) for tokens in (text[:, :7], text))
    torch.testing.assert_close(short, padded, atol=5e-7, rtol=0)


@pytest.mark.parametrize("custom_text", [False, True])
def test_the_mask_is_a_buffer_that_is_not_saved(custom_text):
    model = tiny_clip(custom_text=custom_text)
    mask = (model.text if custom_text else model).attn_mask
    assert mask.shape == (16, 16)
    assert math.isinf(mask[0, 1].item())
    assert not any("attn_mask" in key for key in model.state_dict())


def test_norms_can_stay_trainable_in_a_locked_text_tower():
    model = tiny_clip()
    model.lock_text_tower(freeze_layer_norm=False)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad and not name.startswith("visual")}
    assert {"ln_final.weight", "transformer.resblocks.0.ln_1.bias", "logit_scale"} <= trainable
    assert "transformer.resblocks.0.attn.in_proj_weight" not in trainable


def test_recomputing_blocks_changes_no_gradient():
    model, batch = tiny_clip(), tiny_batch()

    def gradients():
        model.zero_grad()
        image_features, text_features, scale = model(*batch)
        (image_features * text_features * scale).sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    expected = gradients()
    model.set_grad_checkpointing()
    for mine, other in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_autocast_keeps_features_close():
    model, (image, text) = tiny_clip(), tiny_batch()
    expected = model(image, text)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(image, text)
    torch.testing.assert_close(found[0].float(), expected[0], atol=0.05, rtol=0)
    torch.testing.assert_close(found[1].float(), expected[1], atol=0.05, rtol=0)


def test_logits_of_one_side_alone_are_refused():
    with pytest.raises(ConfigError, match="needs both"):
        tiny_clip().forward_intermediates(tiny_batch()[0], output_logits=True)


def test_an_appended_class_token_needs_the_custom_layout():
    with pytest.raises(ConfigError, match="custom_text"):
        tiny_clip(text={"embed_cls": True})
