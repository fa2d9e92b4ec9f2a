"""A recipe in a file of a user's: two texts a row, a loss of its own parameters, its own evaluation; given by path."""

import csv
import json
import signal
from pathlib import Path

import pytest

from npu_session import simulator_env
from pairs import make_pairs, micro_flags
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
from shard_sets import write_tar

RECIPE = ROOT / "test" / "support" / "two_texts.py"
EPOCHS = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A table with a short caption a row, and the same rows as a shard."""
    folder = tmp_path_factory.mktemp("data")
    with open(make_pairs(folder, 12, 2), newline="", encoding="utf-8") as file:
        rows = [{**row, "short_text": f"short {number}"} for number, row in enumerate(csv.DictReader(file))]
    table = folder / "two_texts.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    members = []
    for number, row in enumerate(rows):
        members += [
            (f"{number:04d}.jpg", Path(row["img_key"]).read_bytes()),
            (f"{number:04d}.txt", row["caption_key"].encode()),
            (f"{number:04d}.json", json.dumps({"short_text": row["short_text"]}).encode()),
        ]
    write_tar(folder / "00000.tar", members)
    return {"csv": table, "shards": folder / "00000.tar"}


def flags(data, source, logs, name, **more):
    kind = {"dataset_type": "webdataset"} if source == "shards" else {}
    return micro_flags(
        data[source],
        data[source],
        **{
            "task": f"{RECIPE}:TwoTexts",
            "epochs": EPOCHS,
            "logs_dir": logs,
            "name": name,
            "short_share": 0.4,
            **kind,
            **more,
        },
    )


def last(logs, name):
    return load_payload(logs / name / "checkpoints" / f"epoch_{EPOCHS}.pt")


def run(words, processes=1, **environ):
    status, output = run_trainer(words, processes, **environ)
    assert status == 0, output
    return output


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """The run that the others are compared with."""
    logs = tmp_path_factory.mktemp("logs")
    output = run(flags(data, "csv", logs, "plain"))
    return logs, output


def test_it_is_trained_reported_evaluated_and_saved(plain):
    logs, output = plain
    for word in ("Long_loss:", "Short_loss:", "Share_loss:", "caption_nearness"):
        assert word in output
    lines = read_lines(logs / "plain" / "metrics.jsonl")
    shares = [line["figures"]["short_share"] for line in lines if line["kind"] == "train"]
    assert shares[0] == pytest.approx(0.4, abs=0.01)
    assert len(set(shares)) == len(shares)
    results = [line["metrics"] for line in lines if line["kind"] == "eval"]
    assert len(results) == EPOCHS
    assert all(-1 <= one["caption_nearness"] <= 1 for one in results)
    assert last(logs, "plain")["task_state_dict"].keys() == {"share"}
    assert "short_share" in (logs / "plain" / "report.html").read_text()


def test_two_processes_train_as_one(data, plain, tmp_path):
    run(flags(data, "csv", tmp_path, "two", batch_size=4), 2)
    assert train_losses(tmp_path / "two") == pytest.approx(train_losses(plain[0] / "plain"), rel=1e-5)
    ours, theirs = last(tmp_path, "two"), last(plain[0], "plain")
    share = theirs["task_state_dict"]["share"].item()
    assert ours["task_state_dict"]["share"].item() == pytest.approx(share, abs=1e-6)


@pytest.mark.slow
def test_a_spread_model_trains_with_a_recipe_whose_parameters_are_whole(data, plain, tmp_path):
    run(flags(data, "csv", tmp_path, "spread", batch_size=4, fsdp=True), 2)
    assert train_losses(tmp_path / "spread") == pytest.approx(train_losses(plain[0] / "plain"), rel=1e-5)
    share = last(plain[0], "plain")["task_state_dict"]["share"].item()
    assert last(tmp_path, "spread")["task_state_dict"]["share"].item() == pytest.approx(share, abs=1e-6)


def test_shards_on_the_simulated_npu_train_as_the_table_on_the_cpu(data, tmp_path):
    run(flags(data, "shards", tmp_path, "cpu"))
    run(flags(data, "shards", tmp_path, "npu", device="npu", batch_size=4, accum_freq=2), **simulator_env(devices=1))
    assert train_losses(tmp_path / "npu") == pytest.approx(train_losses(tmp_path / "cpu"), rel=1e-4)


def test_a_run_that_is_stopped_goes_on_to_the_same_bits(data, plain, tmp_path):
    process = start_trainer(flags(data, "csv", tmp_path, "run"))
    wait_for_step(tmp_path / "run", 4, process)
    output = kill_group(process, signal.SIGTERM)
    assert process.returncode == 75, output
    run(flags(data, "csv", tmp_path, "run", resume="latest"))
    ours, theirs = last(tmp_path, "run"), last(plain[0], "plain")
    for entry in ("state_dict", "task_state_dict", "optimizer"):
        assert_same_state(ours[entry], theirs[entry])


def test_a_column_that_is_not_there_is_told_before_anything_is_built(data, tmp_path):
    pairs = {**data, "csv": data["csv"].with_name("pairs.csv")}
    status, output = run_trainer(flags(pairs, "csv", tmp_path, "none"))
    assert status == 2
    assert "recipe two-texts" in output
    assert "short_text" in output
    assert not (tmp_path / "none").exists()


def test_a_fault_of_the_recipe_itself_leaves_a_summary(data, tmp_path):
    faulty = tmp_path / "faulty.py"
    faulty.write_text(
        "from training.tasks import ClipTask\n\n\n"
        "class Faulty(ClipTask):\n    name = 'faulty'\n\n"
        "    def joint_losses(self, outputs):\n        return outputs['no such thing']\n"
    )
    pairs = {**data, "csv": data["csv"].with_name("pairs.csv")}
    words = flags(pairs, "csv", tmp_path, "run", task=f"{faulty}:Faulty", short_share=None)
    status, output = run_trainer(words)
    assert (status, "KeyError: 'no such thing'" in output) == (1, True), output
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"
