"""NXTP's commands in whole runs: train, go on, evaluate; the recipe has a vocabulary of words, which needs no file."""

import logging
import random
import sys
from pathlib import Path

import pytest

from pairs import COLOURS, SHAPES, draw_image
from shard_sets import write_tar
from training.dialects.nxtp import eval_hook, train
from training.dialects.nxtp.log import read_curves
from training.report.jsonl import iterate_metrics

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "recipes" / "nxtp" / "src"
CONFIG = f"""
from configs.config_base import Config
from loader import register_dataset

register_dataset("shapes", "shapes", 40)
register_dataset("shapes_valid", "shapes_valid")
cfg = Config()
cfg.exp_code = "shapes"
cfg.recipe = "{ROOT}/test/support/label_recipe.py:WordsTask"
cfg.data_name = "shapes"
cfg.eval_data_name = "shapes_valid"
cfg.skip_extract_nouns = True
cfg.clip_model, cfg.input_size, cfg.max_seq_len = "nxtp-tiny", 32, 128
cfg.prefix_image_tok_embeds = cfg.decouple_label_tok_embeds = True
cfg.special_tokens = "<|image|>"
cfg.text_decoder_strategy = "one_shot"
cfg.from_scratch, cfg.train_image_blocks = True, -1
cfg.device, cfg.dtype, cfg.num_workers = "cpu", "float32", 0
cfg.batch_size, cfg.gradient_accumulation_steps, cfg.epochs = 8, 1, 2
cfg.lr, cfg.warmup_steps, cfg.log_interval, cfg.ckpt_save_num = 1e-3, 2, 2, 0
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Make two data sets and a config file, in a folder where the commands are typed."""
    rng = random.Random(0)
    for name, count in (("shapes", 32), ("shapes_valid", 8)):
        (tmp_path / name).mkdir()
        members = []
        for number in range(count):
            (colour, ground), shape = rng.sample(sorted(COLOURS), 2), rng.choice(SHAPES)
            draw_image(tmp_path / "one.png", colour, shape, ground, rng)
            members += [(f"{number:04d}.png", (tmp_path / "one.png").read_bytes())]
            members += [(f"{number:04d}.txt", f"{colour}, {shape}, {ground}".encode())]
        write_tar(tmp_path / name / "00000.tar", members)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "config_shapes.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(SOURCES), *sys.path])
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield "experiments/config_shapes.py"
    root.handlers[:], root.level = handlers, level
    for name in ("config_shapes", "loader", "resolved_config"):
        sys.modules.pop(name, None)


def test_a_config_trains_goes_on_and_is_evaluated(config, tmp_path, capsys):
    assert train([config]) == 0
    log, told = capsys.readouterr()
    run = tmp_path / "logs" / "shapes"
    (tmp_path / "log.training").write_text(log)
    recorded = {line["step"]: line["loss"] for line in iterate_metrics(run / "metrics.jsonl", "train")}
    curves = read_curves(tmp_path / "log.training")
    assert [step for step, _ in curves.loss] == [2, 4, 6, 8]
    assert dict(curves.loss) == pytest.approx(recorded, abs=1e-6)
    assert "- lr: 0.001" in log
    assert "loss_objs: " in log
    # The length that the config registered is not that of the shard.
    assert "data set shapes: _DATASETS_META says 40 pairs, its shards hold 32" in told

    # What lies beside the checkpoint is a config; with one more epoch it goes on from there.
    assert train([str(run / "resolved_config.py"), "resume=True", "epochs=3"]) == 0
    steps = [line["step"] for line in iterate_metrics(run / "metrics.jsonl", "train")]
    assert max(steps) == 12
    assert (run / "checkpoints" / "epoch_3.pt").exists()

    capsys.readouterr()
    checkpoint = f"eval_ckpt_path={run / 'checkpoints' / 'epoch_3.pt'}"
    assert eval_hook([str(SOURCES / "evals" / "eval.py"), config, checkpoint, "--topk", "3"]) == 0
    folder = next((tmp_path / "logs").glob("shapes-eval-shapes_valid-epoch_3-one_shot-prob-top3-*"))
    metrics = next(iterate_metrics(folder / "metrics.jsonl", "eval"))["metrics"]
    assert metrics["num_samples"] == 8
    assert 0 <= metrics["label_f1@3"] <= 1


def test_a_run_of_that_name_is_not_written_over(config, tmp_path, capsys):
    (tmp_path / "logs" / "shapes").mkdir(parents=True)
    (tmp_path / "logs" / "shapes" / "out.log").touch()
    assert train([config]) == 2
    assert "a run named shapes is already in" in capsys.readouterr().err
    assert not (tmp_path / "logs" / "shapes" / "resolved_config.py").exists()
