import json
from pathlib import Path

import pytest

from modelzoo_summary import closing_block, loss_lines, main, read_outcome, result_lines, write_results
from open_clip.errors import DataError
from recording_python import write_run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    write_run(tmp_path / "run", batch=1024, ranks=8)
    return tmp_path / "run"


def _change(run_dir: Path, **values: object) -> None:
    path = run_dir / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


@pytest.mark.parametrize("job", ["finetune", "pretrain"])
def test_the_speed_of_every_job_is_that_of_the_last_hundred_steps(run_dir: Path, job: str) -> None:
    outcome = read_outcome(run_dir)

    assert outcome.fps == int(1024 / 0.3)
    assert f"ActualFPS = {int(1024 / 0.3)}" in result_lines(outcome, job, "a")
    assert closing_block(outcome, job)[1] == f"Final Performance images/sec : {int(1024 / 0.3)}"


def test_pretraining_reports_its_loss_in_place_of_the_accuracy(run_dir: Path) -> None:
    outcome = read_outcome(run_dir)

    lines = result_lines(outcome, "pretrain", outcome.default_case_name)

    assert lines[4:7] == ["CaseName = open_clip_bs1024_8p_acc", "TrainLoss = 1.2500", "ActualFPS = 3413"]
    assert "Train loss : 1.2500" in closing_block(outcome, "pretrain")
    assert not [line for line in closing_block(outcome, "pretrain") if "Accuracy" in line]


def test_what_was_not_measured_is_left_out(run_dir: Path) -> None:
    _change(run_dir, metrics={})
    outcome = read_outcome(run_dir)

    keys = [line.split(" = ")[0] for line in result_lines(outcome, "finetune", "a")]

    assert keys == [
        *("Network", "RankSize", "BatchSize", "DeviceType", "CaseName"),
        *("ActualFPS", "TrainingTime", "ActualLoss", "E2ETrainingTime"),
    ]
    assert not [line for line in closing_block(outcome, "finetune") if "R@" in line or "Accuracy" in line]


def test_the_time_of_a_resumed_run_holds_the_part_before(run_dir: Path) -> None:
    _change(run_dir, train_time_s=500.0, e2e_time_s=600.5)

    outcome = read_outcome(run_dir, 70)  # the script that went on took 70 s

    assert (outcome.training_time_s, outcome.e2e_time_s) == (500.0, 600)
    assert read_outcome(run_dir, 620).e2e_time_s == 620


def test_a_run_that_did_not_finish_has_no_result(run_dir: Path) -> None:
    _change(run_dir, status="stopped")

    with pytest.raises(DataError, match="stopped"):
        read_outcome(run_dir)


def test_a_run_without_a_step_has_no_speed(run_dir: Path) -> None:
    _change(run_dir, fps=None, fps_all_steps=None, loss=None)

    with pytest.raises(DataError, match="trained no step"):
        read_outcome(run_dir)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"status": "finished"}'])
def test_a_damaged_summary_is_named(run_dir: Path, text: str) -> None:
    (run_dir / "summary.json").write_text(text, encoding="utf-8")

    with pytest.raises(DataError, match=r"summary\.json is no summary of a finished run"):
        read_outcome(run_dir)


def test_a_torn_line_and_a_loss_that_was_not_finite_cost_only_themselves(run_dir: Path, tmp_path: Path) -> None:
    outcome = read_outcome(run_dir)
    whole = list(loss_lines(run_dir))
    with (run_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "train", "loss": null, "loss_avg": 1.5}\n{"kind": "tr')
    write_results(run_dir, tmp_path, outcome, "finetune", "a")
    assert (tmp_path / "train_a_loss.txt").read_text().splitlines() == [*whole, "nan (1.5000)"]


def test_losses_have_five_significant_digits(run_dir: Path) -> None:
    record = {"kind": "train", "loss": 0.012345678, "loss_avg": 12.3456789}
    (run_dir / "metrics.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")

    assert list(loss_lines(run_dir)) == ["0.012346 (12.346)"]


def test_the_command_writes_beside_the_run_and_names_a_missing_one(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_dir)]) == 0
    assert (run_dir / "open_clip_bs1024_8p_acc_perf_report.log").is_file()
    assert "Final Performance images/sec : 3413" in capsys.readouterr().out

    assert main([str(run_dir / "none")]) == 3
    assert "give a run folder" in capsys.readouterr().err
