import numpy as np
import pytest

import simulate_order
from shard_sets import write_shard
from simulate_order import BrokenPromise, Epoch, Ledger, check_once, check_resumes, check_weights, main, read_counts

COUNTS = np.array([70, 0, 130, 5, 95, 100, 33, 67], dtype=np.int64)


def test_sixty_four_ranks_see_every_sample_once():
    counts = np.random.default_rng(0).integers(0, 2000, size=60)
    assert f"{counts.sum():,} samples seen, none twice" in check_once(Epoch(counts, window=5000), 64, 8)


def test_with_too_many_slices_all_ranks_of_some_steps_are_asked(monkeypatch):
    monkeypatch.setattr(simulate_order, "MOST_SLICES", 40)
    report = check_once(Epoch(COUNTS, window=100), 4, 5)
    assert "in 2 of the steps, the others whole: 500 samples seen, none twice" in report


@pytest.mark.parametrize("broken", [lambda found: found[:1].repeat(len(found)), lambda found: found[:-1]])
def test_a_sample_twice_or_missing_is_noticed(monkeypatch, broken):
    true = simulate_order.rank_batch
    monkeypatch.setattr(simulate_order, "rank_batch", lambda *args: broken(true(*args)))
    with pytest.raises(BrokenPromise):
        check_once(Epoch(COUNTS), 4, 5)


def test_steps_of_a_resumed_run_have_the_same_samples():
    assert "(1, 2, 8" in check_resumes(Epoch(COUNTS, window=90), 4, 8, resumes=60)


def test_a_step_with_other_samples_is_noticed(monkeypatch):
    true = simulate_order.rank_batch
    monkeypatch.setattr(simulate_order, "rank_batch", lambda *args: true(*args)[::-1])
    with pytest.raises(BrokenPromise, match="other samples"):
        check_resumes(Epoch(COUNTS), 4, 8, resumes=3)


def test_weighted_shards_come_as_often_as_asked():
    weights = (1.0, 1.0, 2.0, 1.0, 0.0, 1.0, 1.0, 3.0)
    assert "100,000 samples" in check_weights(Epoch(COUNTS, weights=weights, num_samples=100_000))


def test_the_ledger_tells_visits_from_samples():
    ledger = Ledger(20)
    ledger.mark(np.array([3, 3, 19, 0]))
    assert (ledger.visits, ledger.distinct()) == (4, 3)


def test_counts_are_read_in_three_forms(tmp_path):
    assert read_counts("3x10").tolist() == [10, 10, 10]
    assert read_counts("7,0,2").tolist() == [7, 0, 2]
    for number in range(2):
        write_shard(tmp_path / f"{number:05d}.tar", 3 + number)
    assert read_counts(f"{tmp_path}/{{00000..00001}}.tar").tolist() == [3, 4]


def test_the_command_reports_and_refuses(capsys):
    assert main(["--ranks", "4", "--batch-size", "5", "--shards", "8x100", "--resumes", "3"]) == 0
    assert "800 samples seen, none twice" in capsys.readouterr().out
    assert main(["--shards", "some"]) == 2
    assert main(["--shards", "2x5", "--weights", "1"]) == 2
    assert main(["--shards", "gone.tar"]) == 2
    assert "not there" in capsys.readouterr().err
