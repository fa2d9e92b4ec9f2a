import pytest
import torch

from open_clip.errors import ConfigError
from open_clip.transformer import TextTransformer, lock_text_tower
from tiny_models import tiny_batch, tiny_clip

_SIZES = {"context_length": 16, "vocab_size": 600, "width": 64, "heads": 2, "layers": 2, "output_dim": 32}


def _tower(**options):
    torch.manual_seed(0)
    return TextTransformer(**(_SIZES | options)).eval()


def test_cutting_the_padding_off_changes_neither_outputs_nor_gradients():
    tower, (_, text) = _tower(), tiny_batch()
    outputs, gradients = [], []
    for tokens in (text, text[:, :7]):
        tower.zero_grad()
        outputs.append(tower(tokens))
        outputs[-1].sin().sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in tower.named_parameters()})
    torch.testing.assert_close(outputs[1], outputs[0], atol=5e-7, rtol=0)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=5e-6 * gradient.abs().max().item() + 1e-9, rtol=0)


def test_positions_no_text_reaches_get_a_gradient_of_zero():
    tower, (_, text) = _tower(), tiny_batch()
    tower(text[:, :7]).sum().backward()
    assert tower.positional_embedding.grad.shape == (16, 64)
    assert not tower.positional_embedding.grad[7:].any()


def test_a_text_longer_than_the_context_is_refused_with_both_numbers():
    with pytest.raises(ConfigError, match="17 tokens, but the text tower has 16 positions"):
        _tower()(torch.zeros(1, 17, dtype=torch.long))


def test_a_causal_tower_does_not_read_what_comes_later():
    tower, (_, text) = _tower(), tiny_batch()
    changed = text.clone()
    changed[:, 8:] = 7
    torch.testing.assert_close(tower(changed), tower(text), atol=1e-6, rtol=0)


def test_a_padding_mask_hides_padding_from_a_tower_that_reads_both_ways():
    tower, (_, text) = _tower(no_causal_mask=True, use_pad_mask=True), tiny_batch()
    before = tower(text)
    with torch.no_grad():
        tower.token_embedding.weight[0] += 3.0
    torch.testing.assert_close(tower(text), before, atol=1e-6, rtol=0)


def test_output_tokens_come_with_the_pooled_vector():
    pooled, tokens = _tower(output_tokens=True)(tiny_batch()[1])
    assert pooled.shape == (3, 32)
    assert tokens.shape == (3, 16, 64)


@pytest.mark.parametrize("option", [{"pool_type": "mean"}, {"proj_type": "mlp"}])
def test_unknown_options_are_refused(option):
    with pytest.raises(ConfigError, match="it can be"):
        _tower(**option)


def test_a_models_text_tower_is_locked_by_function_wherever_it_stands():
    for custom in (False, True):
        model = tiny_clip(custom_text=custom)
        lock_text_tower(model, 1)
        text = model.text if custom else model
        assert text.text_projection.requires_grad
        assert not text.ln_final.weight.requires_grad
        assert model.logit_scale.requires_grad
