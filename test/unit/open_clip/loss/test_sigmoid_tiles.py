import pytest
import torch
import torch.nn.functional as F

from open_clip.loss import SigLipLoss
from open_clip.loss.sigmoid_tiles import block_loss


def leaves(rows, scale=10.0, bias=-10.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(rows)
    features = (F.normalize(torch.randn(rows, 8, generator=generator).double(), dim=-1) for _ in range(2))
    return [leaf.to(dtype).requires_grad_() for leaf in (*features, torch.tensor(scale), torch.tensor(bias))]


def answer(loss, given, wanted=(0, 1, 2, 3)):
    value = loss(*given)
    return [value.detach(), *torch.autograd.grad(value, [given[index] for index in wanted])]


def assert_equal(found, expected, tolerance):
    """Compare, to a part of each tensor's largest entry."""
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).abs().max() <= tolerance * other.abs().max() + 1e-30


# A larger block than a tile of a processor has columns, a smaller last tile, tiles of one row and of too many.
@pytest.mark.parametrize("rows, tile_rows", [(1, 8), (7, 1), (31, 8), (12, 100), (1031, 512)])
@pytest.mark.parametrize("scale, bias", [(10.0, -10.0), (1.0, 0.0), (100.0, -16.0), (100.0, 30.0)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 2e-14), (torch.float32, 3e-6)])
def test_tiles_give_the_plain_loss_and_gradients(rows, tile_rows, scale, bias, dtype, tolerance):
    given = leaves(rows, scale, bias, dtype)
    found, expected = (answer(SigLipLoss(chunk_size=size), given) for size in (tile_rows, 0))
    assert_equal(found, expected, tolerance)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,)])
def test_only_what_is_trained_gets_a_gradient(wanted):
    given = leaves(20)
    for index, leaf in enumerate(given):
        leaf.requires_grad_(index in wanted)
    found, expected = (answer(SigLipLoss(chunk_size=size), given, wanted) for size in (6, 0))
    assert_equal(found, expected, 2e-14)


def test_without_gradients_only_the_loss_is_made():
    given = leaves(20)
    with torch.no_grad():
        found, expected = (SigLipLoss(chunk_size=size)(*given) for size in (6, 0))
    torch.testing.assert_close(found, expected)


def test_half_types_are_summed_in_full():
    halves = leaves(50, dtype=torch.bfloat16)
    exact = [leaf.detach().double().requires_grad_() for leaf in halves]
    found, expected = answer(SigLipLoss(chunk_size=16), halves), answer(SigLipLoss(chunk_size=0), exact)
    assert found[0].dtype is torch.float32
    assert (found[0] - expected[0]).abs() <= 1e-6 * expected[0]
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert one.dtype is torch.bfloat16
        assert (one - other).abs().max() <= torch.finfo(torch.bfloat16).eps * other.abs().max()


def test_a_second_backward_pass_gives_the_gradient_again_and_a_second_derivative_is_refused():
    given = leaves(20)
    value = SigLipLoss(chunk_size=6)(*given)
    first = torch.autograd.grad(value, given, retain_graph=True)
    for one, other in zip(torch.autograd.grad(value, given, retain_graph=True), first, strict=True):
        assert torch.equal(one, other)
    with pytest.raises(RuntimeError, match="chunk_size=0"):
        torch.autograd.grad(value, given, create_graph=True)


def test_small_losses_of_many_scores_keep_their_digits():
    # Each score costs 2e-9, of which 1 + exp(score) would lose all.
    images, texts = torch.zeros(2, 8), torch.zeros(64, 8)
    total = block_loss(images, texts, torch.tensor(1.0), torch.tensor(-20.0), tile_rows=1, has_pairs=False)
    assert total.item() == pytest.approx(128 * 2.0611536e-9, rel=1e-6)


def test_nothing_is_read_back_from_the_device():
    # Tensors without memory refuse to be read.
    images, texts = (torch.empty(5000, 8, device="meta", requires_grad=True) for _ in range(2))
    scale, bias = (torch.empty((), device="meta", requires_grad=True) for _ in range(2))
    SigLipLoss()(images, texts, scale, bias).backward()
    assert images.grad.shape == texts.grad.shape == (5000, 8)
