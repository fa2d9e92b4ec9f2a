"""Real runs whose data bring in numbers that are not finite, on one process, on two and on the simulated npu."""

import json
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image

from apex_sources import KINDS, apex_folder
from guard_ranks import guard_rank
from npu_session import simulator_env
from pairs import make_pairs, micro_flags
from ranks import on_ranks
from runs import (
    ROOT,
    assert_same_state,
    kill_group,
    load_payload,
    read_lines,
    run_trainer,
    start_trainer,
    train_losses,
    wait_for_step,
)
from training.data.order import epoch_order

STANDARDISED = (str(ROOT / "test" / "support" / "standardised_trainer.py"),)
ROWS, BATCH = 40, 8


def make_data(folder, bad_rows):
    """Make pairs of which some rows show an image of one colour."""
    table = make_pairs(folder, ROWS, 1)
    for row in bad_rows:
        Image.new("RGB", (48, 48), (120, 120, 120)).save(folder / "images-pairs" / f"{row:05d}.jpg")
    return table


def row_of_step(epoch, batch):
    """Name a row that a batch of an epoch holds."""
    return int(epoch_order(ROWS, 0, epoch)[batch * BATCH + 5])


def batch_of(row, epoch):
    """Find the batch of an epoch that holds a row."""
    return epoch_order(ROWS, 0, epoch).tolist().index(row) // BATCH


def run(flags, **options):
    return run_trainer(flags, program=STANDARDISED, **options)


def events(folder, name):
    return [line for line in read_lines(folder / "metrics.jsonl") if line.get("event") == name]


def weights(folder, name="epoch_2.pt"):
    return load_payload(folder / "checkpoints" / name)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """One bad row: (table, its batch in each of two epochs)."""
    row = row_of_step(0, 2)
    table = make_data(tmp_path_factory.mktemp("data"), [row])
    return table, [batch_of(row, epoch) for epoch in (0, 1)]


@pytest.fixture(scope="module")
def skipping(spoiled, tmp_path_factory):
    logs = tmp_path_factory.mktemp("skipping")
    status, output = run(micro_flags(spoiled[0], logs_dir=logs, name="run"))
    assert status == 0, output
    return logs / "run", output


def test_a_bad_batch_is_skipped_told_and_counted(spoiled, skipping):
    folder, output = skipping
    told = events(folder, "skipped_step")
    steps = [epoch * 5 + batch + 1 for epoch, batch in enumerate(spoiled[1])]
    assert [line["step"] for line in told] == steps
    first = told[0]["detail"]
    assert (first["epoch"], first["batch"], first["reason"]) == (0, spoiled[1][0], "loss, gradient")
    assert (first["first_sample"], first["num_samples"]) == (spoiled[1][0] * BATCH, BATCH)
    assert f"step {steps[0]} (epoch 0, samples {first['first_sample']} to" in output
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["skipped_steps"], summary["rollbacks"], summary["status"]) == (2, 0, "finished")
    assert "Skipped steps" in (folder / "report.html").read_text()
    state = weights(folder)
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values() if value.is_floating_point())
    assert {int(entry["step"]) for entry in state["optimizer"]["state"].values()} == {8}


def test_two_processes_skip_the_same_steps_as_one(spoiled, skipping, tmp_path):
    flags = micro_flags(spoiled[0], logs_dir=tmp_path, name="run", batch_size=BATCH // 2, local_loss=True)
    status, output = run(flags, processes=2)
    assert status == 0, output
    assert [line["step"] for line in events(tmp_path / "run", "skipped_step")] == [
        line["step"] for line in events(skipping[0], "skipped_step")
    ]
    ours, theirs = train_losses(tmp_path / "run"), train_losses(skipping[0])
    assert [step for step, loss in ours.items() if loss is None] == [s for s, loss in theirs.items() if loss is None]
    finite = {step: loss for step, loss in theirs.items() if loss is not None}
    assert {step: ours[step] for step in finite} == pytest.approx(finite, rel=1e-5)


@pytest.mark.parametrize("who", ["host", "device"])
def test_a_bad_number_on_one_process_alone_skips_the_step_on_all(ranks, who):
    first, second = (rank[who] for rank in ranks)
    verdicts = [[{**one, "loss": None} for one in answer["verdicts"]] for answer in (first, second)]
    assert verdicts[0] == verdicts[1]
    assert [one["skipped"] for one in verdicts[0]] == [False, True, False]
    assert [one["bad_losses"] for one in verdicts[0]] == [0, 1, 0]
    assert [one["bad_rows"] for one in verdicts[0]] == [3, 3, 3]
    for answer in (first, second):
        assert answer["moved"] == [False, True]
        assert answer["steps"] == 2


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return on_ranks(guard_rank, 2, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def rolling_back(spoiled, tmp_path_factory):
    logs = tmp_path_factory.mktemp("rolling_back")
    status, output = run(rollback_flags(spoiled, logs))
    assert status == 0, output
    return logs / "run"


def rollback_flags(spoiled, logs):
    return micro_flags(
        spoiled[0],
        logs_dir=logs,
        name="run",
        max_skipped_steps=1,
        save_every_n_steps=1,
        force_patch_dropout=0.3,
        epochs=3,
        max_rollbacks=3,
    )


def test_a_rollback_leaves_the_batch_out_and_the_run_ends_well(spoiled, rolling_back):
    progress = weights(rolling_back, "epoch_3.pt")["training_state"]["progress"]
    assert progress["rollbacks"] == 3
    assert progress["left_out"][:2] == [[epoch, batch] for epoch, batch in enumerate(spoiled[1])]
    assert progress["step"] == 15
    assert len(events(rolling_back, "rollback")) == 3
    losses = train_losses(rolling_back)
    assert all(loss is not None for loss in losses.values())
    assert len(losses) == 12
    assert json.loads((rolling_back / "summary.json").read_text())["steps_left_out"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_rollback_under_apex_ends_with_the_weights_of_a_run_that_skipped_the_batch(kind, tmp_path):
    apex = apex_folder(kind, tmp_path / "apex")
    # The step before the bad one is newer than the checkpoint: going back takes it away and takes it again.
    table = make_data(tmp_path, [row_of_step(0, 3)])
    for name, more in (("back", {"max_skipped_steps": 1}), ("skipped", {})):
        flags = micro_flags(
            table, logs_dir=tmp_path, name=name, precision="apex_o2", epochs=1, save_every_n_steps=2, **more
        )
        status, output = run(flags, PYTHONPATH=str(apex))
        assert status == 0, output
    back, skipped = tmp_path / "back", tmp_path / "skipped"
    assert [line["step"] for line in events(back, "rollback")] == [2]
    assert [line["step"] for line in events(skipped, "skipped_step")] == [4]
    ours, theirs = weights(back, "epoch_1.pt"), weights(skipped, "epoch_1.pt")
    assert len(ours["scaler"]["masters"]) > 10
    assert_same_state(ours["scaler"]["masters"], theirs["scaler"]["masters"])
    for key in ("state_dict", "optimizer"):
        assert_same_state(ours[key], theirs[key])


@pytest.mark.faults
@pytest.mark.parametrize("step", [7, *(pytest.param(step, marks=pytest.mark.slow) for step in (2, 12))])
def test_a_run_killed_between_rollbacks_ends_with_the_weights_of_the_uninterrupted_one(
    spoiled, rolling_back, tmp_path, step
):
    process = start_trainer(rollback_flags(spoiled, tmp_path), program=STANDARDISED)
    wait_for_step(tmp_path / "run", step, process)
    kill_group(process, signal.SIGKILL)
    status, output = run([*rollback_flags(spoiled, tmp_path), "--resume", "latest"])
    assert status == 0, output
    assert train_losses(tmp_path / "run") == train_losses(rolling_back)
    ours, theirs = (weights(folder, "epoch_3.pt") for folder in (tmp_path / "run", rolling_back))
    for key in ("state_dict", "optimizer", "training_state"):
        assert_same_state(ours[key], theirs[key])


def test_too_many_rollbacks_end_with_status_5(spoiled, tmp_path):
    status, output = run([*rollback_flags(spoiled, tmp_path), "--max-rollbacks", "1"])
    assert status == 5, output
    assert "went back 1 times already (--max-rollbacks)" in output
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"


def test_without_a_checkpoint_the_run_ends_with_status_5(spoiled, tmp_path):
    status, output = run(micro_flags(spoiled[0], logs_dir=tmp_path, name="run", max_skipped_steps=1))
    assert status == 5, output
    assert "there is no checkpoint to go back to" in output


def test_stop_ends_with_status_5_at_the_first_bad_batch(spoiled, tmp_path):
    flags = micro_flags(spoiled[0], logs_dir=tmp_path, name="run", on_nonfinite="stop", max_skipped_steps=3)
    status, output = run(flags)
    assert status == 5, output
    assert f"not finite at step {spoiled[1][0] + 1}" in output
    assert "--max-skipped-steps has no effect" in output
    assert not list((tmp_path / "run").glob("checkpoints/*.pt"))


@pytest.mark.npu
def test_the_simulated_npu_skips_the_same_steps(spoiled, skipping, tmp_path):
    environ = simulator_env(devices=2)
    for precision, processes in (("fp32", 1), ("amp", 2)):
        name = f"{precision}-{processes}"
        flags = micro_flags(
            spoiled[0],
            logs_dir=tmp_path,
            name=name,
            device="npu",
            precision=precision,
            batch_size=BATCH // processes,
            loss_scale=512 if precision == "amp" else None,
        )
        status, output = run(flags, processes=processes, **environ)
        assert status == 0, output
        told = [line["step"] for line in events(tmp_path / name, "skipped_step")]
        assert told == [line["step"] for line in events(skipping[0], "skipped_step")]
        assert {int(entry["step"]) for entry in weights(tmp_path / name)["optimizer"]["state"].values()} == {8}


def test_unusable_rows_of_all_processes_count_together(tmp_path):
    table = make_data(tmp_path, [])
    # Two torn images in the first batch, one in each process's half: 2 of 40 rows are over a budget of 4 %.
    for place in (1, 6):
        row = int(epoch_order(ROWS, 0, 0)[place])
        Path(tmp_path / "images-pairs" / f"{row:05d}.jpg").write_bytes(b"\xff\xd8\xff")
    flags = micro_flags(table, logs_dir=tmp_path, name="run", batch_size=4, bad_sample_budget=0.04)
    status_file = tmp_path / "status"
    status, output = run_trainer(flags, processes=2, is_launched=True, OPEN_CLIP_STATUS_FILE=str(status_file))
    assert status == 1, output
    assert status_file.read_text() == "3\n"
    # Each process logs it; torchrun's own report at the end repeats it.
    logged = [line for line in output.splitlines() if " | ERROR | " in line]
    assert len(logged) == 2
    assert all("2 of 40 rows are bad, more than the 4.00% allowed" in line for line in logged)
    flags[flags.index("--bad-sample-budget") + 1] = "0.06"
    status, output = run_trainer([*flags, "--name", "more"], processes=2)
    assert status == 0, output
