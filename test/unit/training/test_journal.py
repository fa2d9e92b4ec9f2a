import io
import json
import logging
import sys

import pytest

from training.journal import Journal
from training.loop import Progress, StepRecord
from training.params import ReportParams
from training.report.console import setup_logging
from training.report.progress import ProgressBar
from training.run_folder import RunFolder


class Terminal(io.StringIO):
    def isatty(self):
        return True


RECORD = StepRecord(
    epoch=0,
    batch=2,
    num_batches=2,
    num_samples=16,
    step=2,
    samples_seen=16,
    epoch_samples=16,
    lr=5e-4,
    figures={"logit_scale": 14.3},
    losses={"loss": (0.125, 0.5)},
    data_time_s=0.01,
    step_time_s=0.1,
    samples_per_step=8,
    world_size=1,
)


def test_on_a_terminal_a_step_moves_the_bar_and_its_line_goes_to_the_file(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    setup_logging(tmp_path / "out.log", logging.INFO)
    journal = Journal(RunFolder("a", tmp_path), ReportParams(), is_master=True)
    journal._loop.bar = ProgressBar(2, stream=terminal)
    journal.recorder.tick(Progress(step=2), 5e-4, 8, 0.1)
    journal.recorder.step(RECORD)
    journal.close()
    assert "Train Epoch: 0" in (tmp_path / "out.log").read_text()
    assert "Train Epoch: 0" not in terminal.getvalue()
    assert "2/2" in terminal.getvalue().split("\r")[-1]
    assert "loss 0.1250" in terminal.getvalue().split("\r")[-1]


def test_the_summary_holds_what_wrappers_read(tmp_path):
    journal = Journal(RunFolder("a", tmp_path), ReportParams(), is_master=True)
    journal._loop.times.global_batch = 8
    journal.recorder.tick(Progress(step=1), 5e-4, 8, 0.5)
    journal.evaluation({"image_to_text_R@5": 0.5125}, {}, 1.0)
    journal.finish("finished", None)
    journal.close()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["fps"], summary["steps"], summary["train_time_s"], summary["status"]) == (16.0, 1, 0.5, "finished")
    assert summary["metrics"]["image_to_text_R@5"] == 0.5125


def test_a_rollback_drops_the_record_of_the_steps_that_are_taken_again(tmp_path, caplog):
    journal = Journal(RunFolder("a", tmp_path), ReportParams(), is_master=True)
    recorder, place = journal.recorder, {"epoch": 0, "batch": 1, "first_sample": 8, "num_samples": 8}
    journal.write("run", schema=1)
    journal.write("train", step=1, step_time_s=0.5, loss=1.0, loss_avg=1.0)
    recorder.event("skipped_step", step=2, reason="loss", loss=float("nan"), **place)
    journal.write("train", step=2, step_time_s=0.5, loss=None, loss_avg=1.0)
    recorder.rolled_back(Progress(step=1, rollbacks=1), reason="so", from_step=2, path="x.pt", left_out=[[0, 1]])
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["kind"], line.get("step"), line.get("event")) for line in lines] == [
        ("run", None, None),
        ("train", 1, None),
        ("event", 1, "rollback"),
    ]
    assert lines[-1]["detail"]["left_out"] == [[0, 1]]
    assert journal._loop.times.num_steps == 1
    assert "step 2 (epoch 0, samples 8 to 15): loss is out of line, loss nan; update skipped" in caplog.text
    assert "so: going back to step 1 (x.pt) and leaving out 1 steps; rollback 1" in caplog.text


@pytest.mark.parametrize("value", ["null", "1e999", "-5", "10000000000000000", "[]", '"2"', "true", "{"])
@pytest.mark.parametrize("name", ["step", "loss", "step_time_s", "metrics", "epoch"])
def test_a_mutated_record_does_not_keep_a_run_from_going_on(tmp_path, name, value):
    sound = [{"kind": "train", "step": 1, "step_time_s": 0.5, "loss": 2.0, "loss_avg": 3.0}]
    sound += [{"kind": "eval", "step": 1, "epoch": 1, "metrics": {"clip_val_loss": 1.0}}]
    lines = [json.dumps(one) for one in sound]
    lines += [json.dumps({**one, name: "HERE"}).replace('"HERE"', value) for one in sound]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    (tmp_path / "summary.json").write_text('{"status": ' + value + "}")
    journal = Journal(RunFolder("a", tmp_path), ReportParams(), is_master=True)
    journal.recorder.rolled_back(Progress(step=1), reason="loss", path="a", left_out=[])
    assert journal.has_evaluation(1, 1)
    assert not journal.is_told()
    journal.finish("finished", None)
    journal.close()
    assert journal._loop.times.num_steps >= 1
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "finished"


def test_a_link_in_the_place_of_the_metrics_is_not_written_through(tmp_path, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "victim").write_text('{"kind": "train", "step": 9}\n')
    (tmp_path / "run" / "metrics.jsonl").symlink_to(tmp_path / "victim")
    journal = Journal(RunFolder("a", tmp_path / "run"), ReportParams(), is_master=True)
    journal.write("train", step=1)
    journal.close()
    assert (tmp_path / "victim").read_text().count("\n") == 1
    assert "a link stands under this name" in caplog.text


def test_a_link_in_the_place_of_the_checkpoints_gets_no_results(tmp_path, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "elsewhere")
    journal = Journal(RunFolder("a", tmp_path / "run"), ReportParams(), is_master=True)
    journal.evaluation({"clip_val_loss": 1.0}, {}, 1.0)
    journal.close()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert "a link or a file stands under this name" in caplog.text


def test_the_line_of_a_step_carries_its_figures_for_other_handlers(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    journal = Journal(RunFolder("a", tmp_path), ReportParams(), is_master=True)
    journal.recorder.step(RECORD)
    journal.close()
    assert [one.step_record for one in caplog.records if hasattr(one, "step_record")] == [RECORD]
