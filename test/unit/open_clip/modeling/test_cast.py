import pytest
import torch

from open_clip import convert_weights_to_fp16, convert_weights_to_lp, get_cast_dtype, get_input_dtype
from tiny_models import tiny_clip


@pytest.mark.parametrize(
    "precision, cast, inputs",
    [
        ("fp32", None, None),
        ("amp_bf16", None, None),
        ("fp16", torch.float16, torch.float16),
        ("bf16", torch.bfloat16, torch.bfloat16),
        ("pure_bf16", None, torch.bfloat16),
    ],
)
def test_types_by_precision_name(precision, cast, inputs):
    assert get_cast_dtype(precision) == cast
    assert get_input_dtype(precision) == inputs


@pytest.mark.parametrize("custom_text", [False, True])
def test_matrices_are_cast_and_norms_and_embeddings_are_not(custom_text):
    model = tiny_clip(custom_text=custom_text, vision={"attentional_pool": True, "attn_pooler_heads": 2})
    convert_weights_to_lp(model, torch.bfloat16)
    kept = {name for name, parameter in model.named_parameters() if parameter.dtype == torch.float32}
    ends = ("embedding", "embedding.weight", "logit_scale", "query")
    assert all(".ln_" in f".{name}" or name.endswith(ends) for name in kept)
    assert "visual.class_embedding" in kept
    assert "visual.proj" not in kept


def test_the_old_name_is_the_same_function():
    assert convert_weights_to_fp16 is convert_weights_to_lp
