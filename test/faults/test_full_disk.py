"""A disk that fills up while a run saves costs saves, never the run; with room again the run ends as ever."""

import os
import subprocess

import pytest

from kill_trials import Trainers, read_steps, run_trial
from pairs import make_pairs, micro_flags
from runs import assert_same_state, load_payload

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A server, flags, and the uninterrupted run of them."""
    folder = tmp_path_factory.mktemp("full")
    flags = micro_flags(
        make_pairs(folder, 45, 2), None, model="ViT-nano", save_every_n_steps=2, force_patch_dropout=0.3
    )
    with Trainers(folder / "trainers") as trainers:
        yield trainers, flags, run_trial(trainers, folder / "whole", flags)


@pytest.fixture
def disk(tmp_path):
    """A file system that has room for a few checkpoints."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def start(bench, disk, steps, **job):
    trainers, flags, _ = bench
    words = [*flags, "--logs-dir", str(disk), "--name", "run", "--resume", "latest"]
    statuses = trainers.run(words, steps, **job)
    return statuses, (steps.parent / f"{steps.name}.out").read_text()


def assert_same_end(disk, whole):
    ours, theirs = (load_payload(run / "checkpoints" / "epoch_2.pt") for run in (disk / "run", whole.run))
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("first_full", [3, 6])
def test_training_goes_on_while_the_disk_is_full_and_ends_well_when_it_is_not(bench, disk, tmp_path, first_full):
    fill = {"path": str(disk / "ballast"), "from": first_full, "until": 17}
    statuses, output = start(bench, disk, tmp_path / "steps", fill=fill)
    assert statuses == [0], output
    assert output.count("Training goes on; free space before the next save.") >= 3
    assert "No space left on device" in output
    assert read_steps(tmp_path / "steps") == bench[2].history
    assert_same_end(disk, bench[2])


def test_a_run_killed_on_a_full_disk_goes_on_from_an_earlier_checkpoint_while_it_is_full(bench, disk, tmp_path):
    ballast = disk / "ballast"
    statuses, output = start(
        bench, disk, tmp_path / "first", fill={"path": str(ballast), "from": 7}, kill={"at": "after_step", "step": 10}
    )
    assert statuses == [-9], output
    statuses, output = start(bench, disk, tmp_path / "second", fill={"path": str(ballast), "until": 17})
    assert statuses == [0], output
    first, second = read_steps(tmp_path / "first"), read_steps(tmp_path / "second")
    assert 10 > min(second) > 3
    assert {**{step: line for step, line in first.items() if step < min(second)}, **second} == bench[2].history
    assert_same_end(disk, bench[2])
