import pytest
import torch
import torch.nn.functional as F

from open_clip.loss import DistillClipLoss


def features(rows, width, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(rows, width, generator=generator, dtype=torch.float64) for _ in range(2))
    return [F.normalize(side, dim=-1).to(dtype) for side in drawn]


def answer(tile_rows, rows, scales=(100.0, 30.0), weights=(1.0, 1.0), dtype=torch.float64):
    scale, teacher_scale = (torch.tensor(value, dtype=dtype) for value in scales)
    leaves = [leaf.requires_grad_() for leaf in (*features(rows, 8, 0, dtype), scale)]
    # A teacher of another width.
    losses = DistillClipLoss(tile_rows=tile_rows)(*leaves, *features(rows, 5, 1, dtype), teacher_scale)
    total = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
    return [*(loss.detach() for loss in losses), *torch.autograd.grad(total, leaves)]


@pytest.mark.parametrize("rows, tile_rows", [(1, 8), (7, 1), (31, 8), (1031, 512)])
@pytest.mark.parametrize("scales", [(14.0, 100.0), (100.0, 1.0)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 2e-14), (torch.float32, 4e-6)])
def test_tiles_give_the_plain_losses_and_gradients(rows, tile_rows, scales, dtype, tolerance):
    found, expected = (answer(size, rows, scales, dtype=dtype) for size in (tile_rows, 0))
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert (one - other).abs() <= tolerance * other.abs().clamp(min=1)
    for one, other in zip(found[2:], expected[2:], strict=True):
        assert (one - other).abs().max() <= tolerance * other.abs().max() + 1e-30


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 2.0), (65536.0, 3.0), (0.0, 0.0), (-1.0, 1.0)])
def test_each_loss_counts_as_it_is_weighted(weights):
    found, expected = (answer(size, 20, weights=weights) for size in (6, 0))
    for one, other in zip(found[2:], expected[2:], strict=True):
        assert (one - other).abs().max() <= 2e-14 * other.abs().max() + 1e-15 * max(map(abs, weights))


def test_a_teacher_that_is_trained_too_gets_its_gradient():
    leaves, scale = [leaf.requires_grad_() for leaf in features(20, 8, 0)], torch.tensor(10.0)
    gradients = []
    for tile_rows in (6, 0):
        _, distilled = DistillClipLoss(tile_rows=tile_rows)(*features(20, 8, 2), scale, *leaves, scale)
        gradients.append(torch.autograd.grad(distilled, leaves))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_a_distillation_of_a_subclass_is_used():
    class Own(DistillClipLoss):
        def dist_loss(self, teacher_logits, student_logits):
            return (teacher_logits - student_logits).square().mean()

    scale = torch.tensor(10.0)
    _, distilled = Own(tile_rows=6)(*features(20, 8, 2), scale, *features(20, 8, 2), scale)
    assert distilled == 0
