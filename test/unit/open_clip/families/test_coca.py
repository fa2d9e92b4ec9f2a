import pytest
import torch

import open_clip
from extras import needs_hf
from open_clip import coca_model
from open_clip.errors import ConfigError
from open_clip.loss import CoCaLoss
from tiny_encoders import write_encoder
from tiny_models import tiny_batch, tiny_coca, tiny_coca_config, write_config


@pytest.fixture
def model():
    return tiny_coca()


@pytest.fixture
def batch():
    return tiny_batch(context_length=15)


def test_it_is_found_under_upstreams_module_name():
    assert coca_model.CoCa is open_clip.CoCa
    assert coca_model.MultimodalCfg().attn_pooler_heads == 8


def test_an_image_alone_gives_its_features_and_tokens(model, batch):
    output = model(batch[0])
    assert list(output) == ["image_features", "image_embs"]
    assert output["image_embs"].shape == (3, 6, 64)
    torch.testing.assert_close(output["image_features"].norm(dim=-1), torch.ones(3))


def test_logits_stand_beside_the_tokens_they_predict(model, batch):
    image, text = batch
    output = model(image, text)
    assert list(output) == ["image_features", "text_features", "logits", "logit_scale", "labels"]
    assert output["logits"].shape == (3, 14, 600)
    assert torch.equal(output["labels"], text[:, 1:])
    whole = model(image, text, output_labels=False)
    assert "labels" not in whole
    torch.testing.assert_close(whole["logits"][:, :-1], output["logits"])


def test_an_encoded_image_gives_what_the_image_gives(model, batch):
    image, text = batch
    encoded = model(image)
    again = model(None, text, image_latent=encoded["image_features"], image_embs=encoded["image_embs"])
    torch.testing.assert_close(again["logits"], model(image, text)["logits"])
    with pytest.raises(ConfigError, match="needs an image"):
        model(None, text)


def test_features_are_normalised_unless_told_otherwise(model, batch):
    image, text = batch
    for encode, inputs in ((model.encode_image, image), (model.encode_text, text)):
        torch.testing.assert_close(encode(inputs).norm(dim=-1), torch.ones(3))
        raw = encode(inputs, normalize=False)
        torch.testing.assert_close(torch.nn.functional.normalize(raw, dim=-1), encode(inputs))


def test_a_bias_is_given_out_and_taken_by_the_loss(batch):
    model = tiny_coca(init_logit_bias=-3.0)
    output = model(*batch)
    assert output["logit_bias"] == -3.0
    losses = CoCaLoss(2.0, 1.0)(**output, output_dict=True)
    sum(losses.values()).backward()
    assert model.text_decoder.text_projection.grad.abs().sum() > 0


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_a_tower_without_tokens_is_refused(tower, batch):
    model = tiny_coca(**{tower: {"output_tokens": False}})
    with pytest.raises(ConfigError, match=f"output_tokens to true in {tower}_cfg"):
        model(*batch)


def test_towers_can_be_locked_and_the_decoder_stays_trainable(model):
    model.lock_image_tower()
    model.lock_text_tower()
    parts = {name.partition(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert parts == {"text_decoder", "logit_scale"}
    assert "text.cls_emb" in model.no_weight_decay()


@pytest.mark.parametrize("precision", ["bf16", "pure_bf16"])
def test_half_precision_models_run(tmp_path, precision, batch):
    open_clip.add_model_config(write_config(tmp_path, "tiny-coca-half", tiny_coca_config()))
    model = open_clip.create_model("tiny-coca-half", precision=precision).eval()
    assert model.text_decoder.text_projection.dtype == torch.bfloat16
    image, text = batch
    output = model(image.bfloat16(), text)
    assert output["logits"].isfinite().all()
    written = model.generate(image.bfloat16(), eos_token_id=599, sot_token_id=598, seq_len=8)
    assert written.shape[0] == 3


def test_checkpointing_reaches_all_three_towers(model):
    model.set_grad_checkpointing()
    assert model.visual.transformer.grad_checkpointing
    assert model.text.transformer.grad_checkpointing
    assert model.text_decoder.grad_checkpointing


class TestHuggingFace:
    pytestmark = needs_hf

    def test_a_hugging_face_text_tower_can_write_captions(self, tmp_path):
        encoder = {"hf_model_name": write_encoder(tmp_path, "roberta"), "hf_model_pretrained": False, "width": 64}
        text = encoder | {"hf_proj_type": "linear", "output_tokens": True, "vocab_size": 90}
        config = tiny_coca_config(decoder={"width": 32}) | {"text_cfg": text}
        config.pop("custom_text")
        model = open_clip.CoCa(**(config | {"embed_dim": 32})).eval()
        image, _ = tiny_batch(2)
        found = model.generate(image, seq_len=8, sot_token_id=5, eos_token_id=6)
        assert found.shape[0] == 2
        assert (found[:, 0] == 5).all()
