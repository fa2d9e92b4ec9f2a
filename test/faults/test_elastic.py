"""A run goes on in the middle of an epoch on other numbers of processes and workers, and takes the same steps."""

import pytest

from kill_trials import Trainers, forget, run_trial
from pairs import make_pairs, micro_flags
from runs import train_losses
from shard_sets import write_shards

pytestmark = pytest.mark.faults
WORKERS = {1: 0, 2: 2, 4: 0}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elastic")
    (folder / "csv").mkdir()
    shards = write_shards(folder / "shards", (31, 30, 29))
    data = {"csv": make_pairs(folder / "csv", 45, 2), "shards": f"{shards}/{{00000..00002}}.tar"}
    with Trainers(folder / "trainers") as trainers:
        yield trainers, folder, data


def make_flags(data, ranks, workers=0, **extra):
    chosen = {"model": "ViT-nano", "batch_size": 8 // ranks, "workers": workers, "save_every_n_steps": 2}
    return micro_flags(data, None, **chosen, log_metric_every_n_steps=1, **extra)


@pytest.mark.parametrize("kind", [pytest.param("csv", marks=pytest.mark.slow), "shards"])
def test_one_two_four_one_processes_see_the_same_samples_in_the_same_steps(bench, kind):
    trainers, folder, tables = bench
    data = tables[kind]
    whole = run_trial(trainers, folder / f"whole-{kind}", make_flags(data, 1))
    # In the first epoch, in the first again, in the second.
    kills = [{"at": "after_step", "step": step} for step in (4, 8, 16)]
    trial = run_trial(
        trainers,
        folder / f"trial-{kind}",
        lambda ranks: make_flags(data, ranks, WORKERS[ranks]),
        kills,
        ranks=(1, 2, 4, 1),
    )
    assert [len(attempt.statuses) for attempt in trial.attempts] == [1, 2, 4, 1]
    assert [attempt.was_killed for attempt in trial.attempts] == [True, True, True, False]
    # What none resumed from could not show anything: every stand took steps that count.
    assert all(attempt.steps for attempt in trial.attempts)
    assert {step: line["keys"] for step, line in trial.history.items()} == {
        step: line["keys"] for step, line in whole.history.items()
    }
    losses = [{step: float.fromhex(line["loss"]) for step, line in one.history.items()} for one in (trial, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert train_losses(trial.run) == pytest.approx(train_losses(whole.run), rel=1e-6)
    forget(trial.run)


def test_processes_that_do_not_divide_the_global_batch_are_refused_with_both_numbers(bench):
    trainers, folder, tables = bench
    data = tables["csv"]
    place = folder / "refused"
    place.mkdir()
    words = ["--logs-dir", str(place), "--name", "run", "--resume", "latest"]
    kill = {"at": "after_step", "step": 5}
    assert trainers.run([*make_flags(data, 1), *words], place / "first", kill=kill) == [-9]
    flags = micro_flags(data, None, model="ViT-nano", batch_size=2, save_every_n_steps=2)
    statuses = trainers.run([*flags, *words], place / "second", ranks=3)
    assert set(statuses) <= {2, -9}
    assert "global_batch was 8 and is 6" in (place / "second.out").read_text()
