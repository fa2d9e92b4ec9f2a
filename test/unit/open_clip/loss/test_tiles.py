import pytest
import torch
import torch.nn.functional as F

from open_clip.errors import ConfigError
from open_clip.loss import ClipLoss
from open_clip.loss.products import even_part, product_type, tiles
from open_clip.loss.tiles import paired_loss, row_loss


def leaves(rows, scale=100.0, dtype=torch.float64, width=8, length=1.0):
    generator = torch.Generator().manual_seed(rows)
    features = (length * F.normalize(torch.randn(rows, width, generator=generator).double(), dim=-1) for _ in range(2))
    return [leaf.to(dtype).requires_grad_() for leaf in (*features, torch.tensor(scale))]


def answer(loss, leaves, wanted=(0, 1, 2)):
    value = loss(*leaves)
    return [value.detach(), *torch.autograd.grad(value, [leaves[index] for index in wanted])]


def assert_equal(found, expected, tolerance):
    """Compare, to a part of each tensor's largest entry; below 1 that of a loss is 1."""
    assert (found[0] - expected[0]).abs() <= tolerance * expected[0].abs().clamp(min=1)
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert one.dtype == other.dtype
        assert (one - other).abs().max() <= tolerance * other.abs().max() + 1e-30


# Tiles of one shape, with a smaller last one, of one row, of more rows than there are; 1031 is prime, and more columns
# than a tile of a processor has.
@pytest.mark.parametrize("rows, tile_rows", [(1, 1024), (7, 1), (24, 8), (31, 8), (12, 512), (1031, 512), (1100, 550)])
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 2e-14), (torch.float32, 3e-6)])
def test_tiles_give_the_plain_loss_and_gradients(rows, tile_rows, scale, dtype, tolerance):
    given = leaves(rows, scale, dtype)
    assert_equal(answer(ClipLoss(tile_rows=tile_rows), given), answer(ClipLoss(tile_rows=0), given), tolerance)


def test_scores_beyond_the_range_of_exponentials_stay_finite():
    given = leaves(40, 100.0, torch.float32, length=10.0)
    found, expected = (answer(ClipLoss(tile_rows=tile_rows), given) for tile_rows in (16, 0))
    assert all(tensor.isfinite().all() for tensor in found)
    assert_equal(found, expected, 3e-6)


def test_a_bias_changes_nothing_and_still_gets_a_gradient():
    images, texts, scale = leaves(20)
    bias = torch.tensor([-7.0], dtype=torch.float64, requires_grad=True)
    values = [ClipLoss(tile_rows=tile_rows)(images, texts, scale, bias) for tile_rows in (0, 6)]
    torch.testing.assert_close(values[1], values[0], atol=1e-13, rtol=0)
    gradients = [torch.autograd.grad(value, bias)[0] for value in values]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-13, rtol=0)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1)])
def test_only_what_is_trained_gets_a_gradient(wanted):
    given = leaves(20)
    for index, leaf in enumerate(given):
        leaf.requires_grad_(index in wanted)
    assert_equal(answer(ClipLoss(tile_rows=6), given, wanted), answer(ClipLoss(tile_rows=0), given, wanted), 5e-15)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_summed_in_full(dtype):
    halves = leaves(50, 20.0, dtype)
    exact = [leaf.detach().double().requires_grad_() for leaf in halves]
    found, expected = answer(ClipLoss(tile_rows=16), halves), answer(ClipLoss(tile_rows=0), exact)
    assert found[0].dtype is torch.float32
    assert (found[0] - expected[0]).abs() < 1e-6
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert one.dtype is dtype
        # The gradients are rounded once, at the end.
        assert (one - other).abs().max() <= torch.finfo(dtype).eps * other.abs().max()


def test_autocast_does_not_round_scores():
    given = leaves(50, 100.0, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found, rounded = (ClipLoss(tile_rows=tile_rows)(*given) for tile_rows in (16, 0))
    exact = ClipLoss(tile_rows=0)(*given)
    assert (found - exact).abs() < 1e-5 < (rounded - exact).abs()


def test_the_scale_may_be_a_number_or_have_a_dimension():
    images, texts, scale = leaves(20)
    loss, plain = ClipLoss(tile_rows=6), ClipLoss(tile_rows=0)
    torch.testing.assert_close(loss(images, texts, 100.0), plain(images, texts, 100.0))
    wide = scale.detach().reshape(1).requires_grad_()
    assert_equal(answer(loss, [images, texts, wide]), answer(plain, [images, texts, wide]), 5e-15)


def test_rows_alone_have_the_cross_entropy_of_their_place():
    rows, columns, scale = leaves(31)
    given = [rows[:9].detach().requires_grad_(), columns, scale]

    def tiled(*features):
        return row_loss(*features, 17, tile_rows=4)

    def plain(rows, columns, scale):
        return F.cross_entropy(scale * rows @ columns.T, torch.arange(17, 26))

    assert_equal(answer(tiled, given), answer(plain, given), 5e-15)


def test_a_second_backward_pass_gives_the_gradient_again():
    given = leaves(20)
    value = ClipLoss(tile_rows=6)(*given)
    first = torch.autograd.grad(value, given, retain_graph=True)
    for one, other in zip(torch.autograd.grad(value, given), first, strict=True):
        assert torch.equal(one, other)


def test_large_losses_are_cut_up_by_themselves_and_second_derivatives_need_the_plain_form():
    images, texts, scale = leaves(2048, 10.0, torch.float32, width=2)

    def second(loss, rows):
        value = loss(images[:rows], texts[:rows], scale)
        (first,) = torch.autograd.grad(value, scale, create_graph=True)
        return torch.autograd.grad(first, scale)

    assert second(ClipLoss(), 2047)[0].isfinite()
    assert second(ClipLoss(tile_rows=0), 2048)[0].isfinite()
    with pytest.raises(RuntimeError, match="tile_rows=0"):
        second(ClipLoss(), 2048)


def test_ranks_count_together():
    # A loss of four ranks with 512 rows is cut up, which needs a process group; one of fewer rows would too.
    images, texts, scale = leaves(512, 10.0)
    calls = []

    class Own(ClipLoss):
        def get_logits(self, *features):
            calls.append(features)
            return super().get_logits(*features)

    with pytest.raises(ValueError, match="process group"):
        ClipLoss(world_size=4)(images, texts, scale)
    Own(tile_rows=8)(images, texts, scale)
    assert calls, "scores of a subclass's own were not asked for"


def test_a_negative_number_of_rows_is_refused():
    with pytest.raises(ConfigError, match="tile_rows is -1"):
        ClipLoss(tile_rows=-1)


def test_nothing_is_read_back_from_the_device():
    # Tensors without memory refuse to be read.
    images, texts = (torch.empty(5000, 8, device="meta", requires_grad=True) for _ in range(2))
    scale = torch.empty((), device="meta", requires_grad=True)
    paired_loss(images, texts, scale, tile_rows=1024).backward()
    assert images.grad.shape == texts.grad.shape == (5000, 8)


def test_parts_are_even_where_a_number_near_the_limit_divides():
    sizes = [even_part(count, 1024) for count in (1, 1024, 8192, 8000, 8200, 1031)]
    assert sizes == [1, 1024, 1024, 1000, 820, 1024]


def test_tiles_of_a_device_have_one_shape_and_cover_the_matrix_once():
    features = torch.empty(1, 1, device="meta")
    found = list(tiles(3000, 65536, 1024, features))
    assert {tile.scores.shape for tile in found} == {(1000, 32768)}
    assert sum(tile.scores.numel() for tile in found) == 3000 * 65536


def test_products_are_in_fp32_where_sums_of_a_half_type_would_be_halves():
    half, full = torch.ones(1, 1, dtype=torch.bfloat16), torch.ones(1, 1)
    assert product_type(half, half) is torch.float32
    assert product_type(half, full.double()) is torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert product_type(full, full) is torch.float32
