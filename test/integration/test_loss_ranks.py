"""The contrastive losses on several ranks against one rank with all rows."""

import pytest
import torch

from loss_ranks import ALL_MODES, KINDS, MODES, SIGLIP_MODES, TILE_ROWS, loss_and_gradients, score_rank
from open_clip.loss import SigLipLoss
from ranks import on_ranks


# 3 and 4: rings in which both neighbours differ, without and with one rank left over on the far side.
@pytest.fixture(scope="module", params=[2, 3, 4])
def ranks(tmp_path_factory, request):
    return on_ranks(score_rank, request.param, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_ranks_give_the_loss_and_gradients_of_one(ranks, kind, mode):
    _, gather_with_grad = mode
    loss, images, texts, scale = loss_and_gradients(KINDS[kind](), slice(None))
    answers = [rank[kind, mode] for rank in ranks]

    def mean(index):
        return torch.stack([answer[index] for answer in answers]).mean(0)

    torch.testing.assert_close(mean(0), loss, atol=1e-12, rtol=0)
    torch.testing.assert_close(mean(3), scale, atol=1e-12, rtol=0)
    # With gathered gradients a rank's rows get what all W ranks send back, which DDP's average over ranks makes whole;
    # otherwise they get the whole once, and DDP's average is a W-th of it, as it is upstream.
    share = 1 / len(ranks) if gather_with_grad else 1
    for index, whole in ((1, images), (2, texts)):
        rows = torch.cat([answer[index] for answer in answers])
        torch.testing.assert_close(rows * share, whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ALL_MODES)
def test_tiles_on_ranks_give_each_rank_the_plain_loss_and_gradients(ranks, kind, mode):
    plain, tiled = ([rank[kind, mode, tile_rows] for rank in ranks] for tile_rows in (0, TILE_ROWS))
    for found, expected in zip(tiled, plain, strict=True):
        for index in (0, 1, 2):
            torch.testing.assert_close(found[index], expected[index], atol=1e-12, rtol=0)
    # A scale has one gradient for all ranks' rows, which is what ranks have on average with local losses too.
    mean = [torch.stack([answer[3] for answer in answers]).mean(0) for answers in (tiled, plain)]
    torch.testing.assert_close(*mean, atol=1e-12, rtol=0)


@pytest.mark.parametrize("mode", SIGLIP_MODES)
def test_ranks_give_the_sigmoid_loss_and_gradients_of_one(ranks, mode):
    whole = loss_and_gradients(SigLipLoss(), slice(None))
    answers = [rank[("siglip", *mode)] for rank in ranks]
    for index in (0, 3, 4):
        mean = torch.stack([answer[index] for answer in answers]).mean(0)
        torch.testing.assert_close(mean, whole[index], atol=1e-12, rtol=0)
    for index in (1, 2):
        rows = torch.cat([answer[index] for answer in answers])
        torch.testing.assert_close(rows / len(ranks), whole[index], atol=1e-12, rtol=0)


def test_neighbours_get_what_was_sent_to_them_and_gradients_come_back(ranks):
    count = len(ranks)
    for rank, answers in enumerate(ranks):
        left, right = (rank - 1) % count, (rank + 1) % count
        # The right one sent its first tensor to its left, the left one its second to its right and its third round.
        expected = [10 * right, 10 * left + 1, 10 * left + 2, left + 1, right + 1, right + 1]
        assert [value.item() for value in answers["neighbours"]] == expected
