"""A real run's checkpoint that is changed anywhere is refused, and a run goes on from the one before it."""

import random
import shutil

import pytest
import torch

from checkpoint_faults import flip_bit
from kill_trials import Trainers, assert_as_uninterrupted, run_trial
from open_clip.errors import CheckpointError
from pairs import make_pairs, micro_flags
from runs import assert_same_state
from training.checkpoint import list_checkpoints, read_verified

torch.set_num_threads(1)
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A run that ended and the server that made it: (trainers, flags, run)."""
    folder = tmp_path_factory.mktemp("damaged")
    flags = micro_flags(make_pairs(folder, 24, 2), None, model="ViT-nano", save_every_n_steps=2, ema_decay=0.9)
    with Trainers(folder / "trainers") as trainers:
        yield trainers, flags, run_trial(trainers, folder / "whole", flags)


def flip(path, rng):
    flip_bit(path, rng.randrange(8 * path.stat().st_size))


def cut(path, rng):
    with path.open("r+b") as file:
        file.truncate(rng.randrange(path.stat().st_size))


def zero_a_page(path, rng):
    with path.open("r+b") as file:
        file.seek(rng.randrange(path.stat().st_size // 4096) * 4096)
        before = file.read(4096)
        file.seek(-len(before), 1)
        file.write(bytes(len(before)) if any(before) else b"\xff" * len(before))


DAMAGES = (flip, flip, flip, cut, zero_a_page)


def copy_newest(run, folder):
    """Copy a run's checkpoints and give path and content of the newest."""
    shutil.copytree(run / "checkpoints", folder)
    path = list_checkpoints(folder)[-1]
    return path, path.read_bytes()


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_any_change_of_a_checkpoint_is_found(bench, tmp_path, count):
    path, sound = copy_newest(bench[2].run, tmp_path / "checkpoints")
    rng = random.Random(count)
    for number in range(count):
        DAMAGES[number % len(DAMAGES)](path, rng)
        with pytest.raises(CheckpointError, match=path.name):
            read_verified(path)
        path.write_bytes(sound)
    read_verified(path)


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_without_its_manifest_no_change_of_a_checkpoint_reaches_a_value(bench, tmp_path, count):
    path, sound = copy_newest(bench[2].run, tmp_path / "checkpoints")
    (path.parent / "manifest.json").unlink()
    expected = read_verified(path)
    rng = random.Random(count)
    unnoticed = 0
    for number in range(count):
        DAMAGES[number % len(DAMAGES)](path, rng)
        try:
            # Padding and dates between the members of the archive have no checksum and no meaning.
            assert_same_state(read_verified(path), expected)
            unnoticed += 1
        except CheckpointError:
            pass
        path.write_bytes(sound)
    assert unnoticed < count / 10


@pytest.mark.parametrize("damage", [flip, cut, zero_a_page])
def test_latest_falls_back_past_damaged_files_and_the_run_ends_as_ever(bench, tmp_path, damage):
    trainers, flags, whole = bench
    there = []

    def spoil(run):
        there[:] = list_checkpoints(run / "checkpoints")
        damage(there[-1], random.Random(5))

    # In the second epoch: an epoch's file and those of two steps lie there.
    trial = run_trial(trainers, tmp_path / "trial", flags, [{"at": "before_step", "step": 11}], after_kill=spoil)
    output = trial.attempts[1].output
    assert f"{there[-1].name}: " in output
    assert "Trying the one before it" in output
    assert f"=> resuming checkpoint '{there[-2]}'" in output
    assert_as_uninterrupted(trial, whole)
