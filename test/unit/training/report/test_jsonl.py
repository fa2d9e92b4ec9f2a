import contextlib
import json
import logging
from pathlib import Path

import pytest
import torch

from training.report.jsonl import MetricsWriter, add_result, iterate_metrics


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "metrics.jsonl"


def write_run(path, steps):
    with contextlib.closing(MetricsWriter(path)) as writer:
        writer.write("run", world_size=1)
        for step in range(1, steps + 1):
            writer.write("train", step=step, loss=1.0 / step)


def test_records_come_back_with_kind_and_time(path):
    write_run(path, 2)
    first, second, third = list(iterate_metrics(path))
    assert first["kind"] == "run"
    assert first["world_size"] == 1
    assert first["time"] > 1.7e9
    assert (second["loss"], third["loss"]) == (1.0, 0.5)
    assert len(list(iterate_metrics(path, "train"))) == 2


def test_each_line_is_on_disk_at_once(path):
    writer = MetricsWriter(path)
    writer.write("train", step=1)
    assert len(list(iterate_metrics(path))) == 1


def test_values_of_torch_and_paths_become_plain_json(path):
    with contextlib.closing(MetricsWriter(path)) as writer:
        writer.write(
            "train", step=1, loss=torch.tensor(0.5), bad=float("nan"), where=Path("a/b"), losses={"x": float("inf")}
        )
    record = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (record["loss"], record["bad"], record["where"], record["losses"]) == (0.5, None, "a/b", {"x": None})


def test_a_file_that_is_not_there_holds_no_records(path):
    assert list(iterate_metrics(path)) == []


def test_truncating_drops_what_a_resumed_run_records_again(path):
    with contextlib.closing(MetricsWriter(path)) as writer:
        writer.write("run", world_size=1)
        for step in range(1, 6):
            writer.write("train", step=step)
            if step in (2, 4):
                writer.write("eval", step=step, epoch=step // 2, metrics={})
                writer.event("checkpoint", step=step, path=f"step_{step}.pt")
        writer.write("event", event="bad_sample", detail={"row": 7})
        writer.write("run", world_size=1, resumed_from="step_2.pt")
        assert writer.truncate_after(3) == 5
        writer.write("train", step=4)
    assert [(one["kind"], one.get("step")) for one in list(iterate_metrics(path))] == [
        ("run", None),
        ("train", 1),
        ("train", 2),
        ("eval", 2),
        ("event", 2),
        ("train", 3),
        ("run", None),
        ("train", 4),
    ]


def test_truncating_removes_a_torn_last_line(path):
    write_run(path, 3)
    path.write_bytes(path.read_bytes()[:-5])
    writer = MetricsWriter(path)
    writer.truncate_after(10)
    writer.write("train", step=3)
    assert [one["step"] for one in list(iterate_metrics(path, "train"))] == [1, 2, 3]
    assert list(path.parent.iterdir()) == [path]


def test_truncating_nothing_leaves_the_file_as_it_is(path):
    write_run(path, 3)
    before = path.stat().st_ino, path.read_bytes()
    assert MetricsWriter(path).truncate_after(3) == 0
    assert (path.stat().st_ino, path.read_bytes()) == before


def test_truncating_a_missing_file_is_no_error(path):
    assert MetricsWriter(path).truncate_after(0) == 0


def test_appending_after_a_kill_costs_only_the_torn_line(path, caplog):
    write_run(path, 3)
    path.write_bytes(path.read_bytes()[:-5])
    with contextlib.closing(MetricsWriter(path)) as writer:
        writer.write("train", step=4)
    with caplog.at_level(logging.WARNING):
        assert [one["step"] for one in list(iterate_metrics(path, "train"))] == [1, 2, 4]
    assert "left out 1 torn line" in caplog.text


def test_a_full_disk_warns_once_and_the_run_goes_on(caplog):
    with caplog.at_level(logging.WARNING), contextlib.closing(MetricsWriter("/dev/full")) as writer:
        for step in range(3):
            writer.write("train", step=step)
    assert caplog.text.count("Cannot write /dev/full") == 1


def test_an_evaluation_that_is_taken_again_stands_once_in_the_results(tmp_path):
    path = tmp_path / "results.jsonl"
    for epoch, loss in ((1, 1.0), (2, 2.0), (2, 2.0)):
        add_result(path, {"epoch": epoch, "loss": loss}, replaces=True)
    with path.open("a") as file:
        file.write('{"epoch": 3, "lo')
    add_result(path, {"epoch": 2, "loss": 2.5}, replaces=True)
    assert list(iterate_metrics(path)) == [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 2.5}]
    add_result(path, {"epoch": 2, "loss": 2.5}, replaces=False)
    assert len(list(iterate_metrics(path))) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["results.jsonl"]


def test_results_that_cannot_be_written_cost_their_line_only(tmp_path, caplog):
    add_result(tmp_path / "absent" / "results.jsonl", {"epoch": 1}, replaces=True)
    assert "could not append to results.jsonl" in caplog.text
