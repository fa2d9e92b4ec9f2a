import pytest
import torch

from open_clip.checkpoint import convert_to_custom_text_state_dict, normalise_state_dict
from open_clip.checkpoint.keys import fit_to_model
from tiny_models import tiny_clip


def test_sizes_and_masks_of_openai_archives_are_left_out():
    extras = {key: torch.tensor(1) for key in ("input_resolution", "context_length", "vocab_size", "attn_mask")}
    assert list(normalise_state_dict({"a": torch.zeros(1)} | extras)) == ["a"]


def test_top_level_text_moves_under_text_and_the_rest_stays():
    old = {"text_projection": 0, "transformer.resblocks.0.ln_1.bias": 1, "visual.proj": 2, "logit_scale": 3}
    new = convert_to_custom_text_state_dict(old)
    assert list(new) == ["text.text_projection", "text.transformer.resblocks.0.ln_1.bias", "visual.proj", "logit_scale"]
    assert convert_to_custom_text_state_dict({"text.proj": 1, "ln_final": 2}) == {"text.proj": 1, "ln_final": 2}


def test_a_scale_takes_the_models_shape_and_a_missing_bias_is_zero():
    model = tiny_clip(init_logit_bias=-10.0, nonscalar_logit_scale=True)
    fitted = fit_to_model({"logit_scale": torch.tensor(2.0)}, model)
    assert fitted["logit_scale"].shape == (1,)
    assert fitted["logit_bias"].tolist() == [0.0]


def test_what_a_model_builds_anew_is_taken_out_of_old_files():
    model = tiny_clip(custom_text=True)
    model.text.transformer.embeddings = torch.nn.Module()
    model.text.transformer.embeddings.register_buffer("position_ids", torch.arange(4), persistent=False)
    ids = {"text.transformer.embeddings.position_ids": torch.arange(4)}
    built = {"text.attn_mask": torch.zeros(16, 16)} | ids
    assert set(fit_to_model(model.state_dict() | built, model)) == set(model.state_dict())
    assert set(fit_to_model(ids, tiny_clip())) == set()


def test_a_buffer_that_is_part_of_the_state_stays():
    model = tiny_clip(custom_text=True)
    model.text.register_buffer("count", torch.zeros(1), persistent=True)
    assert torch.equal(fit_to_model({"text.count": torch.ones(1)}, model)["text.count"], torch.ones(1))


@pytest.mark.parametrize("outer", ["state_dict", "model", "model_state_dict", "module"])
@pytest.mark.parametrize("inner", [None, "state_dict", "module"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_are_taken_out_of_containers_and_of_a_container_in_one(outer, inner, prefix):
    weights = {f"{prefix}visual.proj": torch.zeros(1), f"{prefix}logit_scale": torch.ones(())}
    held = weights if inner is None else {inner: weights, "global_step": 3}
    assert list(normalise_state_dict({"epoch": 3, outer: held, "optimizer": {}})) == ["visual.proj", "logit_scale"]
