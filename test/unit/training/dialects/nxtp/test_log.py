import io
import json
import logging
import re

import pytest

from open_clip.errors import DataError
from training.dialects.nxtp.log import PublicLog, format_line, read_curves
from training.loop import StepRecord
from training.params.optim import ScheduleParams
from training.report.console import TrainLine, format_train_line

PUBLIC = """[01:02:03.004] - lr: 1e-05
[01:02:03.004] total params: 1783.84 (M), 1.78 (B)
[01:02:04.504] epoch: 01  step: 00000001  lr: 0.0000000  loss: 12.0312500  loss_objs: 12.0312500 data time: 0.52025s  \
batch time: 4.10s  warmup step: 00001
[01:03:34.504] epoch: 01  step: 00000100  lr: 0.0000005  loss: 1.2345678  loss_objs: 1.2345678 data time: 0.00025s  \
batch time: 0.90s  warmup step: 00100
[01:04:34.504] epoch: 02  step: 00000200  lr: 0.0000010  loss: nan  loss_objs: nan data time: 0.00025s  \
batch time: 0.90s  warmup step: 00200
[01:05:04.504] epoch: 02  step: 00000300  lr: 0.0000015  loss: 0.7500000  loss_objs: 0.7500000 data time: 0.00025s  \
batch time: 0.90s  warmup step: 00300
"""


def record(**fields):
    given = {
        "epoch": 0,
        "batch": 100,
        "num_batches": 200,
        "num_samples": 1600,
        "step": 100,
        "samples_seen": 800,
        "epoch_samples": 800,
        "lr": 5e-7,
        "figures": {},
        "losses": {"label_loss": (1.25, 1.3), "loss": (1.25, 1.3)},
        "data_time_s": 0.00025,
        "step_time_s": 0.9,
        "samples_per_step": 8,
        "world_size": 1,
    }
    return StepRecord(**(given | fields))


def test_a_step_is_written_as_the_public_log_has_it():
    assert format_line(record(), 2000) == (
        "epoch: 01  step: 00000100  lr: 0.0000005  loss: 1.2500000  loss_objs: 1.2500000 data time: 0.00025s"
        "  batch time: 0.90s  warmup step: 00100"
    )


def test_the_count_of_warm_up_steps_ends_with_the_warm_up():
    assert format_line(record(step=12345, epoch=11), 2000).endswith("warmup step: 02000")
    assert format_line(record(epoch=11), 0).startswith("epoch: 12 ")


def test_the_handler_writes_steps_alone_each_behind_its_time_of_day():
    stream = io.StringIO()
    # Three epochs of 100 steps, a tenth of them warm-up.
    log = PublicLog(ScheduleParams(epochs=3, warmup=20, lr_warmup_share=0.1), 2, stream)
    log.handle(logging.makeLogRecord({"msg": "Start epoch 0"}))
    log.handle(logging.makeLogRecord({"msg": "Train Epoch: 0", "step_record": record()}))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert re.match(r"\[\d\d:\d\d:\d\d\.\d{3}\] epoch: 01  step: 00000100  ", lines[0])
    assert lines[0].endswith("warmup step: 00030")


def test_a_public_log_is_read(tmp_path):
    (tmp_path / "log.g3m.training").write_text(PUBLIC)
    curves = read_curves(tmp_path / "log.g3m.training")
    assert curves.loss == [(1.0, 12.03125), (100.0, 1.2345678), (300.0, 0.75)]
    assert curves.lr == [(1.0, 0.0), (100.0, 5e-7), (300.0, 1.5e-6)]
    assert curves.x_name == "step"


def test_what_the_handler_writes_is_read_back_also_among_our_own_lines(tmp_path):
    text = f"2026-01-01,00:00:00 | INFO | {our_line(0, 8, 9.0)}\n[00:00:00.000] {format_line(record(), 2000)}\n"
    (tmp_path / "slurm.log").write_text(text)
    assert read_curves(tmp_path / "slurm.log").loss == [(100.0, 1.25)]


def our_line(epoch, samples, loss):
    losses = {"label_loss": (1.0, 1.0), "loss": (loss, 2.0)}
    return format_train_line(TrainLine(epoch, samples, 1600, 50.0, 0.1, 0.2, 40.0, 40.0, 1e-5, None, losses))


def test_our_own_log_is_read_by_samples(tmp_path):
    lines = [our_line(0, 800, 3.5), our_line(0, 1600, 3.0), our_line(1, 800, 2.5)]
    (tmp_path / "out.log").write_text("".join(f"2026-01-01,00:00:00 | INFO | {line}\n" for line in lines))
    curves = read_curves(tmp_path / "out.log")
    assert curves.loss == [(800.0, 3.5), (1600.0, 3.0), (2400.0, 2.5)]
    assert curves.lr[0] == (800.0, 1e-5)
    assert curves.x_name == "sample"


def test_a_run_folder_is_read_and_of_a_step_taken_twice_the_later_counts(tmp_path):
    rows = [(10, 3.0), (20, 2.0), (10, 2.5)]
    lines = [json.dumps({"kind": "train", "step": step, "loss": loss, "lr": 0.1}) for step, loss in rows]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, json.dumps({"kind": "eval", "step": 20})]) + "\n")
    assert read_curves(tmp_path).loss == [(10, 2.5), (20, 2.0)]


@pytest.mark.parametrize("name", ["absent.log", "absent.jsonl"])
def test_a_log_that_is_not_there_or_holds_no_step_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_curves(tmp_path / name)
    (tmp_path / name).write_text("nothing of a training\n")
    with pytest.raises(DataError, match="has no line of a training step"):
        read_curves(tmp_path / name)
