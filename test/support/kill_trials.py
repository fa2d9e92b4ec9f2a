"""Trials of the kill harness: runs that die where they are told, are resumed until they end, and are then judged."""

import json
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch

from runs import assert_same_state, load_payload, read_lines, trainer_environment
from warm_python import ForkServer

_SERVER = Path(__file__).with_name("killed_trainer.py")


class Trainers(AbstractContextManager):
    """A process that imported torch once and forks a trainer for each job."""

    def __init__(self, folder, **environ):
        Path(folder).mkdir(parents=True, exist_ok=True)
        paths = {"PYTHONPATH": environ.pop("PYTHONPATH", str(_SERVER.parent))}
        self._server = ForkServer([str(_SERVER), str(folder)], trainer_environment(**paths, **environ))

    def __exit__(self, *error):
        self._server.close()

    def run(self, flags, steps, *, ranks=1, **job):
        """Run one job to its end and give the statuses of its ranks; ``kill``, ``fill``, ``spoil``: `killed_trainer`.

        Args:
            flags: Words of the command line.
            steps: File that gets a line for each step.
            ranks: Processes that train together.
        """
        about = {"flags": flags, "steps": str(steps), "output": f"{steps}.out", "ranks": ranks, "limit_s": 200}
        return self._server.ask(about | job)["statuses"]


@dataclass
class Attempt:
    """One start of a run: how it ended, and the steps it took, ``{step: line}``."""

    statuses: list[int]
    steps: dict[int, dict]
    output: str

    @property
    def was_killed(self):
        return any(status < 0 for status in self.statuses)


@dataclass
class Trial:
    """All starts of one run, the last of which ended by itself."""

    run: Path
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def history(self):
        """Give the steps that the run's weights come from: of each start those the next one did not take again."""
        kept = {}
        for attempt in self.attempts:
            if attempt.steps:
                kept = {step: line for step, line in kept.items() if step < min(attempt.steps)}
                kept |= attempt.steps
        return kept

    @property
    def lost(self):
        """Count the steps that each start took again."""
        taken = [attempt.steps for attempt in self.attempts if attempt.steps]
        return [max(before) - min(after) + 1 for before, after in pairwise(taken)]


def run_trial(trainers, folder, flags, kills=(), *, ranks=1, after_kill=lambda run: None, **job):
    """Start a run, kill it as often as there are kills, and resume it until it ends.

    Args:
        flags: Words of the command line without name and place, or a function that gives them for a number of ranks.
        kills: What kills the first starts.
        ranks: Processes of every start, or of each in turn.
        after_kill: Called with the run folder after each start that was killed.
    """
    trial = Trial(Path(folder) / "run")
    for number, kill in enumerate([*kills, None]):
        count = ranks if isinstance(ranks, int) else ranks[number]
        words = flags(count) if callable(flags) else flags
        words = [*words, "--logs-dir", str(folder), "--name", "run", "--resume", "latest"]
        steps = Path(folder) / f"steps-{number}"
        steps.parent.mkdir(parents=True, exist_ok=True)
        statuses = trainers.run(words, steps, ranks=count, **({"kill": kill} if kill else {}), **job)
        output = Path(f"{steps}.out").read_text(errors="replace")
        trial.attempts.append(Attempt(statuses, read_steps(steps, count), output))
        if statuses == [0] * count:
            return trial
        # 75: stopped on request, and resumable.
        assert trial.attempts[-1].was_killed or set(statuses) == {75}, (statuses, output[-3000:])
        after_kill(trial.run)
    raise AssertionError(f"the last start was killed too:\n{output[-3000:]}")


def read_steps(path, ranks=1):
    """Read what each step did; the keys of several ranks follow each other as in the global batch."""
    files = [Path(f"{path}{f'-{rank}' if rank else ''}") for rank in range(ranks)]
    lines = [{line["step"]: line for line in read_lines(file)} if file.exists() else {} for file in files]
    common = set.intersection(*(set(one) for one in lines))
    return {
        step: {**lines[0][step], "keys": [key for one in lines for key in one[step]["keys"]]} for step in sorted(common)
    }


def assert_as_uninterrupted(trial, whole):
    """Assert that a trial did and left what the uninterrupted run did and left, bit for bit."""
    assert trial.history == whole.history
    assert_metrics_tell_each_step_once(trial.run, whole)
    names = {path.name for path in (whole.run / "checkpoints").glob("epoch_*")}
    last = max(names, key=lambda name: (whole.run / "checkpoints" / name).stat().st_mtime_ns)
    # A kill between the last save and the deletion of the steps before it leaves one or two of those.
    extra = {path.name for path in (trial.run / "checkpoints").glob("*.pt")} ^ names
    assert all("_step_" in name for name in extra)
    assert len(extra) <= 2
    ours, theirs = (load_payload(run / "checkpoints" / last) for run in (trial.run, whole.run))
    assert ours.keys() == theirs.keys()
    assert_same_state(ours, theirs)
    assert not list((trial.run / "checkpoints").glob(".tmp*"))


def assert_metrics_tell_each_step_once(run, whole):
    """Assert that metrics.jsonl holds every step once, in order, with the losses of the uninterrupted run."""
    told = [[json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()] for one in (run, whole.run)]
    ours, theirs = ([(line["step"], line["loss"]) for line in lines if line["kind"] == "train"] for lines in told)
    assert ours == theirs
    assert [step for step, _ in ours] == [*whole.history]
    statuses = [line["status"] for line in told[0] if line["kind"] == "summary"]
    assert statuses == ["stopped"] * (len(statuses) - 1) + ["finished"]
    ours, theirs = ([line["metrics"] for line in lines if line["kind"] == "eval"] for lines in told)
    assert ours == theirs
    ours, theirs = (one / "checkpoints" / "results.jsonl" for one in (run, whole.run))
    assert ours.exists() == theirs.exists()
    assert not ours.exists() or ours.read_text() == theirs.read_text()
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    assert (run / "report.html").is_file()


def assert_each_sample_once(history, steps_per_epoch, num_samples):
    """Assert that no sample of an epoch comes twice and as many come as full batches hold."""
    for first in range(1, max(history) + 1, steps_per_epoch):
        keys = [key for step in range(first, first + steps_per_epoch) for key in history[step]["keys"]]
        assert len(keys) == len(set(keys)) == num_samples


def forget(folder):
    """Delete what a trial left."""
    shutil.rmtree(folder)


torch.set_num_threads(1)
