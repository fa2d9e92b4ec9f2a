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
