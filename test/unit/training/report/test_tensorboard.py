import contextlib
import sys

import pytest

from open_clip.errors import MissingDependency
from training.report.tensorboard import TensorBoardWriter


def read_scalars(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tags_are_upstreams(tmp_path):
    record = {
        "step": 7,
        "data_time_s": 0.1,
        "step_time_s": 0.5,
        "samples_per_s": 64.0,
        "samples_per_s_per_device": 32.0,
        "logit_scale": 14.0,
        "lr": 0.25,
        "loss": 2.0,
        "losses": {"contrastive_loss": 2.0},
    }
    with contextlib.closing(TensorBoardWriter(tmp_path)) as writer:
        writer.write_train(record)
        writer.write_eval({"image_to_text_R@5": 0.5}, epoch=3)
    scalars = read_scalars(tmp_path)
    names = ("data_time", "batch_time", "samples_per_second", "samples_per_second_per_gpu", "scale", "lr")
    assert set(scalars) == {f"train/{name}" for name in (*names, "contrastive_loss", "loss")} | {
        "val/image_to_text_R@5"
    }
    assert scalars["train/lr"] == [(7, 0.25)]
    assert scalars["val/image_to_text_R@5"] == [(3, 0.5)]


def test_a_resumed_run_hides_what_came_after_the_checkpoint(tmp_path):
    with contextlib.closing(TensorBoardWriter(tmp_path)) as writer:
        for step in (1, 2, 3):
            writer.write_train({"step": step, "lr": 0.5})
    with contextlib.closing(TensorBoardWriter(tmp_path, resumed_step=1)) as writer:
        writer.write_train({"step": 2, "lr": 0.25})
    assert read_scalars(tmp_path)["train/lr"] == [(1, 0.5), (2, 0.25)]


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependency, match=r"pip install -e '\.\[logging\]'"):
        TensorBoardWriter(tmp_path)
