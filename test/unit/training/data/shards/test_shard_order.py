import numpy as np
import pytest

from training.data.order import rank_batch
from training.data.shards.order import ShardOrder

COUNTS = np.array([70, 0, 130, 5, 95, 100, 33, 67], dtype=np.int64)


def whole(order):
    return order[0 : len(order)].tolist()


@pytest.mark.parametrize("window", [1, 50, 120, 10_000])
def test_an_epoch_visits_every_sample_once(window):
    order = ShardOrder(COUNTS, seed=3, epoch=1, window=window)
    assert sorted(whole(order)) == list(range(500))


@pytest.mark.parametrize("window", [1, 50, 120, 10_000])
def test_any_slice_equals_that_part_of_the_whole(window):
    order = ShardOrder(COUNTS, seed=3, epoch=1, window=window)
    expected = whole(order)
    fresh = ShardOrder(COUNTS, seed=3, epoch=1, window=window)
    for start in (0, 17, 130, 250, 251, 420, 499):
        for size in (1, 32, 300):
            assert fresh[start : start + size].tolist() == expected[start : start + size]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(whole(ShardOrder(COUNTS, seed, epoch))) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert len(orders) == 6


def test_a_window_takes_from_neighbouring_shards_only():
    counts = np.full(40, 100, dtype=np.int64)
    order = ShardOrder(counts, 0, 0, window=500)
    for start in range(0, 4000, 500):
        assert len(set((order[start : start + 500] // 100).tolist())) == 5


def test_a_shorter_epoch_is_the_start_of_the_whole_one():
    assert whole(ShardOrder(COUNTS, 0, 5, num_samples=120)) == whole(ShardOrder(COUNTS, 0, 5))[:120]
    assert len(ShardOrder(COUNTS, 0, 5, num_samples=9999)) == 500


def test_weighted_draws_follow_their_weights_and_may_repeat_samples():
    counts = np.full(4, 50, dtype=np.int64)
    order = ShardOrder(counts, 0, 0, num_samples=100_000, weights=[1.0, 1.0, 2.0, 0.0], window=200)
    shards = np.bincount(order[0:100_000] // 50, minlength=4) / 100_000
    assert shards.tolist() == pytest.approx([0.25, 0.25, 0.5, 0.0], abs=0.03)
    longer = ShardOrder(counts, 0, 0, num_samples=200_000, weights=[1.0, 1.0, 2.0, 0.0], window=200)
    assert order[0:99_000].tolist() == longer[0:99_000].tolist()


def test_sixty_four_ranks_see_every_sample_of_an_epoch_exactly_once():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 2000, size=300)
    ranks, batch = 64, 8
    total = int(counts.sum())
    seen = np.zeros(total, dtype=np.int64)
    orders = [ShardOrder(counts, 7, 2, window=5000) for _ in range(ranks)]
    num_batches = total // (ranks * batch)
    for number in range(num_batches):
        for rank, order in enumerate(orders):
            seen[rank_batch(order, number, ranks * batch, rank, ranks)] += 1
    left = orders[0][num_batches * ranks * batch : total]
    seen[left] += 1
    assert len(left) < ranks * batch
    assert (seen == 1).all()


def test_a_step_does_not_depend_on_the_number_of_ranks():
    for number in (0, 3, 7):
        batches = [
            np.concatenate([rank_batch(ShardOrder(COUNTS, 1, 0, window=100), number, 48, r, w) for r in range(w)])
            for w in (1, 2, 4, 16)
        ]
        assert all((batch == batches[0]).all() for batch in batches)


def test_an_order_of_two_billion_samples_takes_little_time_and_memory():
    order = ShardOrder(np.full(200_000, 10_000, dtype=np.int64), 0, 0)
    assert len(order) == 2_000_000_000
    assert len(set(order[1_234_567_890 : 1_234_567_890 + 4096].tolist())) == 4096
