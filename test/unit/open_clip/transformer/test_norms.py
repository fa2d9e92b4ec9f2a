import pytest
import torch

from open_clip.transformer import LayerNorm, LayerNormFp32, LayerScale, QuickGELU


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_fp32_norm_takes_half_inputs_and_gives_them_back(dtype):
    norm = LayerNormFp32(8)
    assert norm.weight.dtype == torch.float32
    assert norm(torch.randn(2, 8).to(dtype)).dtype == dtype


def test_the_norm_gives_back_its_input_type_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert LayerNorm(8)(torch.randn(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_layer_scale_starts_at_its_value_and_can_work_in_place():
    x = torch.ones(2, 4)
    assert torch.equal(LayerScale(4, 0.5)(x), torch.full((2, 4), 0.5))
    with torch.no_grad():
        LayerScale(4, 0.5, inplace=True)(x)
    assert torch.equal(x, torch.full((2, 4), 0.5))


def test_quick_gelu_is_a_sigmoid_gate():
    x = torch.linspace(-3, 3, 7)
    assert torch.equal(QuickGELU()(x), x * torch.sigmoid(1.702 * x))
