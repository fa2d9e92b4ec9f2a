"""Every failure a user can cause ends with its own status and a message that says what to do."""

import csv
import json

import pytest
import torch

from pairs import make_pairs, micro_flags
from runs import run_trainer
from training.main import main


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return make_pairs(folder, 20, 2, name="train.csv"), make_pairs(folder, 6, 2, seed=1, name="val.csv")


def status_and_log(words, capfd):
    status = main(words)
    captured = capfd.readouterr()
    return status, captured.out + captured.err


def test_an_unknown_flag_is_2(capfd):
    status, log = status_and_log(["--trian-data", "x"], capfd)
    assert status == 2
    assert "Did you mean --train-data" in log


def test_an_unknown_model_is_2_with_the_nearest_names(data, tmp_path, capfd):
    status, log = status_and_log(micro_flags(*data, logs_dir=tmp_path, model="ViT-B-23"), capfd)
    assert status == 2
    assert "ViT-B-32" in log


def test_an_existing_run_is_2(data, tmp_path, capfd):
    flags = micro_flags(*data, logs_dir=tmp_path, name="run", epochs=1)
    assert main(flags) == 0
    status, log = status_and_log(flags, capfd)
    assert status == 2
    assert "a run named run is already in" in log
    assert "--resume latest" in log


def test_a_missing_table_is_3(data, tmp_path, capfd):
    status, log = status_and_log(micro_flags(tmp_path / "absent.csv", None, logs_dir=tmp_path), capfd)
    assert status == 3
    assert "absent.csv" in log


def test_a_wrong_column_is_3_and_names_those_there_are(data, tmp_path, capfd):
    words = [*micro_flags(data[0], None, logs_dir=tmp_path), "--csv-caption-key", "caption"]
    status, log = status_and_log(words, capfd)
    assert status in (2, 3)
    assert "caption_key" in log
    assert "caption" in log


def test_an_empty_table_is_3(tmp_path, capfd):
    (tmp_path / "empty.csv").write_text("img_key,caption_key\n")
    status, log = status_and_log(micro_flags(tmp_path / "empty.csv", None, logs_dir=tmp_path), capfd)
    assert status == 3
    assert "empty.csv" in log


def test_more_bad_rows_than_the_budget_are_3_and_listed(data, tmp_path, capfd):
    rows = list(csv.reader(data[0].open()))
    rows[3][0] = str(tmp_path / "missing.jpg")
    rows[5][1] = ""
    table = tmp_path / "dirty.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    status, log = status_and_log(micro_flags(table, None, logs_dir=tmp_path, name="strict"), capfd)
    assert status == 3
    assert "missing.jpg" in log
    assert "--bad-sample-budget" in log
    assert main(micro_flags(table, None, logs_dir=tmp_path, name="lenient", bad_sample_budget=0.1)) == 0
    listed = (tmp_path / "lenient" / "bad_samples.jsonl").read_text()
    assert "missing.jpg" in listed
    assert len(listed.splitlines()) == 2


def test_bad_validation_rows_are_left_out_and_listed(data, tmp_path):
    rows = list(csv.reader(data[1].open()))
    rows[3][0] = str(tmp_path / "missing.jpg")
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(b"\xff\xd8 torn")
    rows[6][0] = str(torn)
    table = tmp_path / "val.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    flags = micro_flags(data[0], table, logs_dir=tmp_path, name="run", epochs=1, bad_sample_budget=0.5)
    assert main(flags) == 0
    listed = (tmp_path / "run" / "bad_samples.jsonl").read_text()
    assert "missing.jpg" in listed
    assert "torn.jpg" in listed
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]["num_samples"] == 10


def test_a_torn_image_is_replaced_listed_and_training_goes_on(tmp_path, capfd):
    table = make_pairs(tmp_path, 20, 2, name="train.csv")
    torn = sorted((tmp_path / "images-train").iterdir())[4]
    torn.write_bytes(torn.read_bytes()[:300])
    assert main(micro_flags(table, None, logs_dir=tmp_path, name="run", bad_sample_budget=0.2)) == 0
    assert torn.name in (tmp_path / "run" / "bad_samples.jsonl").read_text()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04torn"])
def test_a_damaged_checkpoint_is_4(data, tmp_path, capfd, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    status, log = status_and_log(micro_flags(*data, logs_dir=tmp_path / "logs", resume=path), capfd)
    assert status == 4
    assert "weights.pt" in log


def test_weights_of_another_model_are_4_with_both_shapes(data, tmp_path, capfd):
    torch.save({"state_dict": {"logit_scale": torch.zeros(3)}}, tmp_path / "other.pt")
    flags = micro_flags(*data, logs_dir=tmp_path / "logs", pretrained=tmp_path / "other.pt")
    status, log = status_and_log(flags, capfd)
    assert status == 4
    assert "other.pt" in log


def test_a_loss_that_is_not_finite_is_5_and_saves_nothing(data, tmp_path, capfd):
    flags = micro_flags(*data, logs_dir=tmp_path, name="run", lr=1e30, warmup=0, epochs=3)
    status, log = status_and_log(flags, capfd)
    assert status == 5
    assert "--grad-clip-norm" in log
    for path in (tmp_path / "run" / "checkpoints").glob("*.pt"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in state.values())


def test_a_failed_run_still_gets_its_summary_and_report(data, tmp_path):
    assert main(micro_flags(*data, logs_dir=tmp_path, name="run", lr=1e30, warmup=0, epochs=3)) == 5
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_full_disk_does_not_change_the_status(data, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OPEN_CLIP_STATUS_FILE", "/dev/full/status")
    status, _ = status_and_log(micro_flags(tmp_path / "absent.csv", None, logs_dir=tmp_path), capfd)
    assert status == 3


def test_an_absent_device_is_6_and_says_how_to_ask_for_the_cpu(data, tmp_path, capfd):
    absent = next(kind for kind in ("npu", "cuda") if not getattr(getattr(torch, kind, None), "is_available", bool)())
    status, log = status_and_log(micro_flags(*data, logs_dir=tmp_path, device=absent), capfd)
    assert status == 6
    assert "--device cpu" in log


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a card")
def test_several_processes_without_a_card_are_6_unless_the_cpu_is_asked_for(data, tmp_path, monkeypatch, capfd):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    status, log = status_and_log(micro_flags(*data, logs_dir=tmp_path / "logs", device="auto"), capfd)
    assert status == 6
    assert "2 processes were started with --device auto and no card was found (npu: " in log
    assert "--device=cpu" in log
    assert not (tmp_path / "logs").exists()


def test_what_torchrun_prints_last_are_the_words_of_the_process_that_failed(tmp_path):
    words = micro_flags(tmp_path / "absent.csv", None, logs_dir=tmp_path / "logs")
    status, output = run_trainer(words, processes=2, is_launched=True)
    assert status == 1
    *_, why, flag, rule = output.rstrip().splitlines()
    assert why.strip().startswith("traceback : Cannot read ")
    assert "absent.csv: No such file or directory" in why
    assert flag.strip() == "(--train-data)"
    assert set(rule) == {"="}


def test_the_first_failing_process_leaves_its_status_for_the_wrappers(tmp_path, monkeypatch):
    monkeypatch.setenv("OPEN_CLIP_STATUS_FILE", str(tmp_path / "status"))
    assert main(["--no-such-flag"]) == 2
    assert main(micro_flags(tmp_path / "absent.csv", None, logs_dir=tmp_path)) == 3
    assert (tmp_path / "status").read_text() == "2\n"
