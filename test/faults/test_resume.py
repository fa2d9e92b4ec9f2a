"""A run that is killed or stopped at any step goes on as if nothing had happened."""

import random
import signal

import pytest

from pairs import make_pairs, micro_flags
from runs import assert_same_state, kill_group, load_payload, run_trainer, start_trainer, train_losses, wait_for_step

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return make_pairs(folder, 60, 2, name="train.csv"), make_pairs(folder, 6, 2, seed=1, name="val.csv")


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    logs = tmp_path_factory.mktemp("uninterrupted")
    status, output = run_trainer(flags(data, logs))
    assert status == 0, output
    return logs / "run"


def flags(data, logs, **extra):
    chosen = {"logs_dir": logs, "name": "run", "save_every_n_steps": 3, "force_patch_dropout": 0.3, **extra}
    return micro_flags(*data, **chosen)


def assert_same_end(run, uninterrupted):
    assert train_losses(run) == train_losses(uninterrupted)
    ours, theirs = (load_payload(path / "checkpoints" / "epoch_2.pt") for path in (run, uninterrupted))
    for key in ("state_dict", "optimizer", "training_state"):
        assert_same_state(ours[key], theirs[key])


@pytest.mark.parametrize("trial,workers", [pytest.param(0, 0, marks=pytest.mark.slow), (1, 2)])
def test_a_run_killed_at_a_random_step_ends_with_the_weights_of_the_uninterrupted_one(
    data, uninterrupted, tmp_path, trial, workers
):
    process = start_trainer(flags(data, tmp_path, workers=workers))
    wait_for_step(tmp_path / "run", random.Random(trial).randrange(4, 27), process)
    kill_group(process, signal.SIGKILL)
    status, output = run_trainer([*flags(data, tmp_path, workers=workers), "--resume", "latest"])
    assert status == 0, output
    assert "=> resuming checkpoint" in output
    assert_same_end(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_request_saves_and_exits_75_with_the_command_to_go_on(data, uninterrupted, tmp_path, number):
    process = start_trainer(flags(data, tmp_path, save_every_n_steps=0))
    wait_for_step(tmp_path / "run", 6, process)
    output = kill_group(process, number)
    assert process.returncode == 75, output
    assert "--name run --resume latest" in output
    command = next(line for line in output.splitlines() if "--resume latest" in line).split()
    status, output = run_trainer(command[command.index("--config") :])
    assert status == 0, output
    assert_same_end(tmp_path / "run", uninterrupted)


def test_two_ranks_stop_at_the_same_step_when_only_one_is_asked(data, tmp_path):
    process = start_trainer(flags(data, tmp_path, batch_size=4, workers=0), processes=2)
    wait_for_step(tmp_path / "run", 4, process)
    kill_group(process, signal.SIGTERM)
    status, output = run_trainer(
        [*flags(data, tmp_path, batch_size=4), "--resume", "latest"],
        processes=2,
        OPEN_CLIP_STATUS_FILE=str(tmp_path / "s"),
    )
    assert status == 0, output
    losses = train_losses(tmp_path / "run")
    assert sorted(losses) == list(range(1, 31))


def test_a_run_goes_on_with_another_number_of_ranks_of_the_same_global_batch(data, uninterrupted, tmp_path):
    process = start_trainer(flags(data, tmp_path, force_patch_dropout=None))
    wait_for_step(tmp_path / "run", 5, process)
    kill_group(process, signal.SIGTERM)
    resumed = flags(data, tmp_path, batch_size=4, force_patch_dropout=None)
    status, output = run_trainer([*resumed, "--resume", "latest"], processes=2)
    assert status == 0, output
    whole = tmp_path / "whole"
    status, output = run_trainer(flags(data, whole, force_patch_dropout=None))
    assert status == 0, output
    assert train_losses(tmp_path / "run") == pytest.approx(train_losses(whole / "run"), rel=1e-5)


def test_a_changed_global_batch_in_mid_epoch_is_refused_with_both_numbers(data, tmp_path):
    process = start_trainer(flags(data, tmp_path))
    wait_for_step(tmp_path / "run", 5, process)
    kill_group(process, signal.SIGTERM)
    status, output = run_trainer([*flags(data, tmp_path, batch_size=16), "--resume", "latest"])
    assert status == 2, output
    assert "global_batch was 8 and is 16" in output
