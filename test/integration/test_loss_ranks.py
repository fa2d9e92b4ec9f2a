"""The contrastive losses on several ranks against one rank with all rows."""

import pytest
import torch

from loss_ranks import KINDS, MODES, loss_and_gradients, run_rank

WORLD_SIZE = 2


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_rank, (WORLD_SIZE, str(folder)), nprocs=WORLD_SIZE)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD_SIZE)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_two_ranks_give_the_loss_and_gradients_of_one(ranks, kind, mode):
    _, gather_with_grad = mode
    loss, images, texts, scale = loss_and_gradients(KINDS[kind](), slice(None))
    answers = [rank[kind, mode] for rank in ranks]

    def mean(index):
        return torch.stack([answer[index] for answer in answers]).mean(0)

    torch.testing.assert_close(mean(0), loss, atol=1e-12, rtol=0)
    torch.testing.assert_close(mean(3), scale, atol=1e-12, rtol=0)
    # With gathered gradients a rank's rows get what all W ranks send back, which DDP's average over ranks makes whole;
    # otherwise they get the whole once, and DDP's average is a W-th of it, as it is upstream.
    share = 1 / WORLD_SIZE if gather_with_grad else 1
    for index, whole in ((1, images), (2, texts)):
        rows = torch.cat([answer[index] for answer in answers])
        torch.testing.assert_close(rows * share, whole, atol=1e-12, rtol=0)
