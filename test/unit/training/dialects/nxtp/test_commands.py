import logging
import sys
from pathlib import Path

import pytest

from training.dialects.nxtp import eval_hook, train
from training.dialects.nxtp.commands import _ResolvedConfig, _settle_device
from training.dialects.nxtp.settings import read_config

SOURCES = Path(__file__).resolve().parents[5] / "recipes" / "nxtp" / "src"
G3M = str(SOURCES / "configs" / "config_g3m.py")


@pytest.fixture(autouse=True)
def logging_as_it_was():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_a_config_is_printed_with_what_the_command_line_changes(capsys):
    assert train([G3M, "--print-config", "lr=3e-4", "--batch-size", "2", "--epochs=5", "--dataset", "sbu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"- lr: 0.0003", "- batch_size: 2", "- epochs: 5", "- eval_data_name: sbu", "- exp_code: g3m"} <= set(lines)
    assert all(line.startswith("- ") for line in lines)


@pytest.mark.parametrize(
    "words, status, says",
    [
        ([], 2, "name a config file"),
        ([G3M, "batchsize=2"], 2, "Did you mean batch_size"),
        ([G3M, "--lr"], 2, "'--lr' has no value behind it"),
        (["configs/absent.py"], 2, "no such file"),
        ([G3M, "data_root=nowhere"], 3, "data set cc3m: nowhere/cc3m/cc3m_train is no folder"),
        ([G3M, "data_name=cc4m"], 2, "Did you mean cc3m"),
    ],
)
def test_a_wrong_start_says_why_and_leaves_its_status(words, status, says, capsys):
    assert train(words) == status
    assert says in capsys.readouterr().err


def test_a_filter_of_parameters_is_not_passed_over_in_silence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [str(SOURCES), *sys.path])
    function = "def optim_filter(model, decay, other):\n    return decay, other\n"
    (tmp_path / "config_filters.py").write_text(f"from configs.config_g3m import cfg\n{function}")
    assert train([str(tmp_path / "config_filters.py")]) == 2
    assert "config_filters.py defines optim_filter" in capsys.readouterr().err


def test_the_hook_calls_the_evaluation_file_with_the_config(tmp_path):
    (tmp_path / "my_evaluation.py").write_text("def main(cfg):\n    return 40 + cfg.eval_topk\n")
    assert eval_hook([str(tmp_path / "my_evaluation.py"), G3M, "--topk", "3"]) == 43


@pytest.mark.parametrize(
    "words, says",
    [
        ([G3M], "has no 'main'"),
        ([], "name the evaluation and the config"),
        ([str(SOURCES / "evals" / "absent.py"), G3M], "no such file"),
        ([str(SOURCES / "evals" / "eval.py"), G3M], "eval_ckpt_path is empty"),
    ],
)
def test_an_evaluation_that_cannot_begin_says_why(words, says, capsys):
    assert eval_hook(words) == 2
    assert says in capsys.readouterr().err


def test_the_resolved_config_lies_beside_the_trainers_settings_and_can_be_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(SOURCES), *sys.path])
    cfg = read_config(G3M, ["lr=3e-4", "exp_code=again"])
    copy = _ResolvedConfig(cfg, tmp_path)
    copy.handle(logging.makeLogRecord({"msg": "the run has no folder yet"}))
    assert not list(tmp_path.iterdir())
    (tmp_path / "config.yaml").write_text("lr: 0.0003\n")
    copy.handle(logging.makeLogRecord({"msg": "Training:"}))
    again = read_config(str(tmp_path / "resolved_config.py"))
    del sys.modules["resolved_config"]  # another test has a file of this name
    assert again.values() == cfg.values()
    assert again.values()["exp_code"] == "again"


def test_processes_whose_number_was_asked_for_share_a_cpu(monkeypatch):
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("training.device.select.device_report", lambda: [])
    cfg = read_config(G3M)
    before = cfg.values()["device"]
    monkeypatch.delenv("NPROC", raising=False)
    _settle_device(cfg)
    assert cfg.values()["device"] == before == "auto"
    monkeypatch.setenv("NPROC", "2")
    _settle_device(cfg)
    assert cfg.values()["device"] == "cpu"
