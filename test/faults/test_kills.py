"""Runs killed at random moments, inside saves too, end as the uninterrupted run did, bit for bit."""

import itertools
import random
import signal
from dataclasses import dataclass, field

import pytest

from kill_trials import (
    Trainers,
    assert_as_uninterrupted,
    assert_each_sample_once,
    forget,
    run_trial,
)
from npu_session import simulator_env
from pairs import make_pairs, micro_flags
from shard_sets import write_shards

pytestmark = pytest.mark.faults
EPOCHS, EVERY = 2, 2


@dataclass(frozen=True)
class Setup:
    """A way to train: where the pairs come from and which flags are given."""

    data: str
    flags: dict = field(default_factory=dict)
    accum_freq: int = 1

    @property
    def lag(self):
        """Intervals of saving that a kill may cost: a save beside the training is not there until it is written."""
        return 1 if "no_save_in_background" in self.flags else 2

    @property
    def every(self):
        """Steps between two saves."""
        return self.flags.get("save_every_n_steps", EVERY)


SETUPS = {
    "csv": Setup("csv", {"ema_decay": 0.9}),
    "csv-workers-accumulating": Setup("csv", {"workers": 2, "accum_freq": 2}, accum_freq=2),
    "csv-waiting": Setup("csv", {"no_save_in_background": True, "grad_clip_norm": 1.0, "on_loss_spike": "skip"}),
    "shards": Setup("shards", {"grad_clip_norm": 1.0, "save_most_recent": True}),
    "shards-drawn": Setup("shards", {"dataset_resampled": True, "train_num_samples": 88}),
    "shards-workers": Setup("shards", {"workers": 2, "ema_decay": 0.9, "keep_checkpoints": 2}),
    "csv-evaluated": Setup("csv", {"val_data": True, "save_every_n_steps": 3}),
    "streamed": Setup("shards", {"shard_order": "buffer", "train_num_samples": 88, "workers": 1}),
    "npu-scaled": Setup("csv", {"device": "npu", "precision": "amp", "ema_decay": 0.9, "deterministic": True}),
}

# What needs nothing that may be missing.
PLAIN = [name for name in SETUPS if name not in ("streamed", "npu-scaled")]


class Bench:
    """The trainers, the data, and each setup's uninterrupted run."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "csv").mkdir()
        self._val = make_pairs(folder / "csv", 6, 1, seed=1, name="val.csv")
        shards = write_shards(folder / "shards", (31, 30, 29))
        self._data = {"csv": make_pairs(folder / "csv", 45, 2), "shards": f"{shards}/{{00000..00002}}.tar"}
        self._trainers, self._whole, self._numbers = {}, {}, itertools.count()

    def trainers(self, setup):
        kind = setup.flags.get("device", "cpu")
        if kind not in self._trainers:
            environ = simulator_env(devices=1) if kind == "npu" else {}
            self._trainers[kind] = Trainers(self.folder / f"trainers-{kind}", **environ)
        return self._trainers[kind]

    def flags(self, setup):
        # 90 rows and batches of 8: each epoch leaves out some, others each time.
        chosen = {"model": "ViT-nano", "save_every_n_steps": EVERY, "force_patch_dropout": 0.3, "epochs": EPOCHS}
        chosen |= {"batch_size": 8 // setup.accum_freq, "log_metric_every_n_steps": 1, **setup.flags}
        val = self._val if chosen.pop("val_data", False) else None
        return micro_flags(self._data[setup.data], val, **chosen)

    def whole(self, name):
        """Run a setup without a kill, once."""
        setup = SETUPS[name]
        if name not in self._whole:
            whole = run_trial(self.trainers(setup), self.folder / f"whole-{name}", self.flags(setup))
            assert sorted(whole.history) == list(range(1, len(whole.history) + 1))
            assert len(whole.history) == 11 * EPOCHS
            self._whole[name] = whole
        return self._whole[name]

    def try_kills(self, name, kills):
        """Kill a run of a setup, resume it to its end, and hold what it did and left to the uninterrupted run."""
        setup, whole = SETUPS[name], self.whole(name)
        folder = self.folder / f"trial-{next(self._numbers)}"
        trial = run_trial(self.trainers(setup), folder, self.flags(setup), kills)
        assert_as_uninterrupted(trial, whole)
        assert max(trial.lost, default=0) <= setup.lag * setup.every, trial.lost
        forget(folder)
        return trial

    def close(self):
        for trainers in self._trainers.values():
            trainers.__exit__()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("kills"))
    yield bench
    bench.close()


def draw_kill(rng, kind, steps):
    """Draw a moment of some kind."""
    if kind == "call":
        return {"at": "call", "number": rng.randrange(1, 500)}
    if kind == "time":
        return {"at": "time", "line": rng.randrange(1, steps), "seconds": rng.uniform(0, 0.08)}
    if kind == "start":
        return {"at": "time", "line": 0, "seconds": rng.uniform(0, 1.0)}
    return {"at": kind, "step": rng.randrange(1, steps)}


@pytest.mark.parametrize("name", PLAIN)
def test_a_few_kills_change_nothing(bench, name):
    rng = random.Random(name)
    steps = len(bench.whole(name).history)
    bench.try_kills(name, [draw_kill(rng, "call", steps), draw_kill(rng, "time", 4)])
    bench.try_kills(name, [draw_kill(rng, "after_step", steps)])


def test_a_run_killed_before_its_first_checkpoint_starts_anew_and_tells_each_step_once(bench):
    trial = bench.try_kills("csv", [{"at": "after_step", "step": 1}, {"at": "before_step", "step": 2}])
    assert [len(attempt.steps) for attempt in trial.attempts[:2]] == [1, 1]


@pytest.mark.parametrize("name", ["csv-workers-accumulating", "shards-workers", "csv-evaluated"])
def test_a_request_to_stop_at_any_time_changes_nothing_and_costs_no_step(bench, name):
    rng = random.Random(name)
    kills = [draw_kill(rng, "time", 5) | {"signal": number} for number in (signal.SIGTERM, signal.SIGUSR1)]
    trial = bench.try_kills(name, kills)
    assert [attempt.statuses for attempt in trial.attempts] == [[75], [75], [0]]
    assert trial.lost == [0, 0]


@pytest.mark.parametrize("line, seconds", [(11, 0.02), (11, 0.1), (22, 0.03), (22, 0.1), (22, 0.2)])
def test_a_kill_about_an_evaluation_or_the_report_loses_neither(bench, line, seconds):
    trial = bench.try_kills("csv-evaluated", [{"at": "time", "line": line, "seconds": seconds}])
    assert trial.attempts


def test_a_kill_changes_nothing_in_a_stream(bench):
    pytest.importorskip("webdataset", reason="--shard-order buffer needs the extra shards")
    bench.try_kills("streamed", [{"at": "after_step", "step": 7}, {"at": "after_step", "step": 17}])


@pytest.mark.slow
@pytest.mark.npu
def test_a_hundred_kills_change_nothing(bench):
    rng = random.Random(0)
    kinds = ("call", "time", "after_step", "call", "start", "before_step", "time")
    killed = dict.fromkeys(kinds, 0)
    names = [*PLAIN, "npu-scaled"]
    number = 0
    while sum(killed.values()) < 100:
        name, kind = names[number % len(names)], kinds[number % len(kinds)]
        number += 1
        trial = bench.try_kills(name, [draw_kill(rng, kind, len(bench.whole(name).history))])
        killed[kind] += trial.attempts[0].was_killed
    assert killed["call"] >= 10


@pytest.mark.parametrize("name", ["csv", "shards"])
def test_an_epoch_visits_no_sample_twice(bench, name):
    history = bench.whole(name).history
    assert_each_sample_once(history, len(history) // EPOCHS, 88)
