"""Real runs of the trainer on a CPU, in one process and in two."""

import json

import pytest
import torch

from pairs import make_pairs, micro_flags
from runs import load_payload, read_lines, run_trainer, train_losses
from training.main import main
from training.report.jsonl import iterate_metrics


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return make_pairs(folder, 20, 2, name="train.csv"), make_pairs(folder, 6, 2, seed=1, name="val.csv")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_run_leaves_checkpoints_metrics_summary_and_report(data, tmp_path):
    assert main(micro_flags(*data, logs_dir=tmp_path, name="run")) == 0
    run = tmp_path / "run"
    for name in (
        "out.log",
        "params.txt",
        "config.yaml",
        "metrics.jsonl",
        "summary.json",
        "report.html",
        "evaluations.json",
    ):
        assert (run / name).is_file(), name
    assert sorted(p.name for p in (run / "checkpoints").glob("*.pt")) == ["epoch_1.pt", "epoch_2.pt"]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["steps"] == 10
    assert {"image_to_text_R@5", "text_retrieval_recall@5", "clip_val_loss"} <= summary["metrics"].keys()
    assert len(read_lines(run / "checkpoints" / "results.jsonl")) == 2
    log = (run / "out.log").read_text()
    assert "Train Epoch: 0 [ 8/40 (20%)]" in log or "Train Epoch: 0 [8/40 (20%)]" in log
    assert "Eval Epoch: 2 image_to_text_mean_rank:" in log


def test_the_loss_falls_and_training_beats_chance(data, tmp_path):
    assert main(micro_flags(*data, logs_dir=tmp_path, name="run", epochs=6)) == 0
    losses = train_losses(tmp_path / "run")
    assert sum(list(losses.values())[-5:]) < 0.7 * sum(list(losses.values())[:5])


def test_the_saved_configuration_alone_repeats_the_run(data, tmp_path):
    assert main(micro_flags(*data, logs_dir=tmp_path, name="first")) == 0
    assert main(["--config", str(tmp_path / "first" / "config.yaml"), "--name", "second"]) == 0
    assert train_losses(tmp_path / "first") == train_losses(tmp_path / "second")


def test_without_training_data_the_weights_are_only_evaluated(data, tmp_path):
    train, val = data
    assert main(micro_flags(train, val, logs_dir=tmp_path, name="run")) == 0
    trained = json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]
    weights = tmp_path / "run" / "checkpoints" / "epoch_2.pt"
    assert main(micro_flags(None, val, logs_dir=tmp_path, name="eval", pretrained=weights)) == 0
    evaluated = json.loads((tmp_path / "eval" / "summary.json").read_text())["metrics"]
    assert evaluated["clip_val_loss"] == pytest.approx(trained["clip_val_loss"], rel=1e-6)
    assert evaluated["image_to_text_R@5"] == trained["image_to_text_R@5"]


def test_an_evaluation_reads_the_weights_of_resume(data, tmp_path):
    train, val = data
    assert main(micro_flags(train, val, logs_dir=tmp_path, name="run")) == 0
    trained = json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]
    weights = tmp_path / "run" / "checkpoints" / "epoch_2.pt"
    assert main(micro_flags(None, val, logs_dir=tmp_path, name="eval", resume=weights)) == 0
    evaluated = json.loads((tmp_path / "eval" / "summary.json").read_text())["metrics"]
    assert evaluated == pytest.approx(trained, rel=1e-6)
    assert main(micro_flags(None, val, logs_dir=tmp_path, name="none", resume=tmp_path / "absent.pt")) == 4


def test_evaluating_in_a_runs_own_folder_keeps_its_record_and_settings(data, tmp_path):
    train, val = data
    assert main(micro_flags(train, val, logs_dir=tmp_path, name="run")) == 0
    run = tmp_path / "run"
    losses, settings = train_losses(run), (run / "config.yaml").read_text()
    assert main([*micro_flags(None, val, logs_dir=tmp_path, name="run"), "--resume", "latest"]) == 0
    assert train_losses(run) == losses
    assert (run / "config.yaml").read_text() == settings
    assert json.loads((run / "summary.json").read_text())["steps"] == 10


def test_resuming_a_finished_run_leaves_its_results_alone(data, tmp_path, capfd):
    flags = micro_flags(*data, logs_dir=tmp_path, name="run")
    assert main(flags) == 0
    before = (tmp_path / "run" / "summary.json").read_text()
    capfd.readouterr()
    assert main([*flags, "--resume", "latest"]) == 0
    assert "nothing is left to do" in capfd.readouterr().err
    assert (tmp_path / "run" / "summary.json").read_text() == before


def test_a_resumed_runs_summary_covers_the_part_before(data, tmp_path):
    flags = micro_flags(*data, logs_dir=tmp_path, name="run")
    assert main(flags) == 0
    first = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert main([*flags, "--epochs", "3", "--resume", "latest"]) == 0
    whole = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (first["steps"], whole["steps"]) == (10, 15)
    assert whole["train_time_s"] > first["train_time_s"]


def test_figures_are_recorded_between_two_log_lines(data, tmp_path):
    flags = micro_flags(*data, logs_dir=tmp_path, name="run", log_every_n_steps=100, log_metric_every_n_steps=2)
    assert main(flags) == 0
    assert sorted(train_losses(tmp_path / "run")) == [2, 4, 5, 6, 8, 10]
    assert (tmp_path / "run" / "out.log").read_text().count("Train Epoch:") == 2


def test_accumulation_gives_the_losses_of_the_large_batch(data, tmp_path):
    common = {"logs_dir": tmp_path, "epochs": 2, "save_frequency": 0}
    assert main(micro_flags(*data, name="whole", **common)) == 0
    assert main(micro_flags(*data, name="parts", **{**common, "batch_size": 4, "accum_freq": 2})) == 0
    whole, parts = train_losses(tmp_path / "whole"), train_losses(tmp_path / "parts")
    assert parts == pytest.approx(whole, rel=1e-5)


def test_workers_change_no_loss(data, tmp_path):
    assert main(micro_flags(*data, logs_dir=tmp_path, name="none", workers=0)) == 0
    assert main(micro_flags(*data, logs_dir=tmp_path, name="two", workers=2)) == 0
    assert train_losses(tmp_path / "none") == train_losses(tmp_path / "two")


def test_logs_dir_none_writes_nothing(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(micro_flags(*data, logs_dir="None", epochs=1)) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extra", [{}, {"local_loss": True}, {"accum_freq": 2, "batch_size": 2}])
def test_two_ranks_with_half_the_batch_give_the_losses_of_one_rank(data, tmp_path, extra):
    assert main(micro_flags(*data, logs_dir=tmp_path, name="one", grad_clip_norm=1.0)) == 0
    flags = {"batch_size": 4, "grad_clip_norm": 1.0, **extra}
    words = micro_flags(*data, logs_dir=tmp_path, name="two", **flags)
    status, output = run_trainer(words, processes=2, is_launched=not extra)
    assert status == 0, output
    one, two = train_losses(tmp_path / "one"), train_losses(tmp_path / "two")
    assert len(one) == 10
    assert two == pytest.approx(one, rel=1e-5)
    metrics = [json.loads((tmp_path / name / "summary.json").read_text())["metrics"] for name in ("one", "two")]
    if "accum_freq" in extra:
        # Validation loss is over blocks of one batch of all ranks, as upstream has it: other blocks, another figure.
        assert metrics[0].pop("clip_val_loss") != metrics[1].pop("clip_val_loss")
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-4)
    weights = [load_payload(tmp_path / name / "checkpoints" / "epoch_2.pt")["state_dict"] for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        # AdamW turns a rounding difference in a near-zero gradient into one of up to a step of lr 1e-3.
        assert (weights[1][name] - value).abs().max() < 2e-3, name


def test_a_run_of_steps_ends_anywhere_and_goes_on_to_the_weights_of_one_by_epochs(data, tmp_path):
    # Five steps an epoch.
    flags = {"logs_dir": tmp_path, "lr_scheduler": "const"}
    assert main(micro_flags(*data, name="epochs", **flags)) == 0
    by_steps = {**flags, "name": "steps", "epochs": None, "resume": "latest"}
    assert main(micro_flags(*data, **by_steps, max_steps=7)) == 0
    run = tmp_path / "steps"
    assert {path.name for path in (run / "checkpoints").glob("*.pt")} == {"epoch_1.pt", "epoch_1_step_7.pt"}
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["epochs"]) == ("finished", 7, 1)
    assert [line["step"] for line in iterate_metrics(run / "metrics.jsonl", "eval")] == [5, 7]
    assert "7 of 8 rows: 2 epochs of 5 steps, the last ends 3 steps early" in (run / "out.log").read_text()
    assert main(micro_flags(*data, **by_steps, max_steps=7)) == 0
    assert "nothing is left to do: all 7 steps" in (run / "out.log").read_text()
    # A kill between the last save and the evaluation after it.
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not (json.loads(line)["kind"] == "eval" and json.loads(line)["step"] == 7)]
    (run / "metrics.jsonl").write_text("".join(kept))
    assert main(micro_flags(*data, **by_steps, max_steps=7)) == 0
    assert [line["step"] for line in iterate_metrics(run / "metrics.jsonl", "eval")] == [5, 7]
    # The folder's settings say how long; what is typed takes their place.
    again = ["--config", str(run / "config.yaml"), "--name", "steps", "--resume", "latest"]
    assert main([*again, "--max-steps", "9"]) == 0
    assert main([*again, "--epochs", "2"]) == 0
    ours, theirs = (load_payload(tmp_path / name / "checkpoints" / "epoch_2.pt") for name in ("steps", "epochs"))
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
    # A run by epochs goes on under steps.
    assert main(micro_flags(*data, **{**by_steps, "name": "epochs"}, max_steps=11)) == 0
    assert (tmp_path / "epochs" / "checkpoints" / "epoch_2_step_11.pt").is_file()
