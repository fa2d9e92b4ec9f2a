import numpy as np
import pytest

from training.data.order import epoch_order, rank_batch, rank_slice, sample_seed

PINNED_ORDER = [3, 1, 6, 2, 4, 7, 0, 5]
PINNED_SEED = 5211480184160126311


def test_each_epoch_visits_every_sample_once_in_another_order():
    first, second = epoch_order(1000, seed=1, epoch=0), epoch_order(1000, seed=1, epoch=1)
    assert sorted(first) == sorted(second) == list(range(1000))
    assert (first != second).mean() > 0.9
    assert (first != np.arange(1000)).mean() > 0.9


def test_the_order_is_pinned_so_that_old_runs_resume_under_new_versions():
    assert epoch_order(8, seed=0, epoch=0).tolist() == PINNED_ORDER
    assert sample_seed(0, 0, 0) == PINNED_SEED


def test_seeds_and_epochs_do_not_mirror_one_another():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(-2, 8) for epoch in range(10)}
    assert len(orders) == 100


def test_two_ranks_together_see_the_batch_of_one():
    order = epoch_order(100, seed=0, epoch=0)
    whole = rank_batch(order, 3, 16, rank=0, world_size=1)
    halves = [rank_batch(order, 3, 16, rank=rank, world_size=2) for rank in range(2)]
    np.testing.assert_array_equal(whole, np.concatenate(halves))


def test_a_batch_that_does_not_divide_by_the_ranks_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match="10 does not divide by 4"):
        rank_batch(epoch_order(100, 0, 0), 0, 10, 0, 4)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_the_shares_of_the_ranks_cover_everything_once(world_size):
    shares = [rank_slice(10, rank, world_size) for rank in range(world_size)]
    assert [index for start, stop in shares for index in range(start, stop)] == list(range(10))
    assert max(stop - start for start, stop in shares) - min(stop - start for start, stop in shares) <= 1


def test_sample_seeds_differ_and_fit_a_generator():
    seeds = [sample_seed(seed, epoch, index) for seed in range(5) for epoch in range(20) for index in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # The CPU generator takes 32 bits of its seed: those have to differ as well (birthday bound: about one pair).
    assert len({seed & 0xFFFFFFFF for seed in seeds}) >= len(seeds) - 3
