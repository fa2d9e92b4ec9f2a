"""Traces of a few steps that a run leaves for a person."""

import gzip
import json
import re

import pytest

from npu_session import simulator_env
from pairs import make_pairs, micro_flags
from runs import run_trainer, train_losses


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("data"), 24, 2, name="train.csv")


def check_phases(events):
    """Check that the parts of both recorded steps stand in a trace under their names."""
    names = [event.get("name") for event in events]
    for phase in ("forward", "backward", "optimizer"):
        assert names.count(phase) >= 2, phase
    assert "data" in names


def test_the_steps_asked_for_are_written_with_their_parts_by_name(data, tmp_path):
    words = micro_flags(data, logs_dir=tmp_path, name="run", profile=True, profile_steps=2, epochs=1)
    status, output = run_trainer(words)
    assert status == 0, output
    [path] = (tmp_path / "run" / "profile").iterdir()
    assert path.name == "rank-0-steps-5-6.json.gz"
    with gzip.open(path, "rt") as file:
        check_phases(json.load(file)["traceEvents"])
    assert "steps 5 to 6: what took longest" in output
    assert "Self CPU" in output
    assert f"the trace is in {path}" in output


@pytest.mark.npu
def test_an_npu_s_record_is_a_folder_that_mindstudio_insight_opens(data, tmp_path):
    words = micro_flags(data, logs_dir=tmp_path, name="run", device="npu", profile=True, profile_steps=2, epochs=1)
    status, output = run_trainer(words, **simulator_env(devices=1))
    assert status == 0, output
    [folder] = (tmp_path / "run" / "profile").iterdir()
    assert re.fullmatch(r"rank-0_\d+_\d+_ascend_pt", folder.name)
    trace = json.loads((folder / "ASCEND_PROFILER_OUTPUT" / "trace_view.json").read_text())
    check_phases(trace)
    assert f"steps 5 to 6: the trace is in {folder}: open it with MindStudio Insight" in output
    # The schedule ended it, with the steps asked for in it and no other.
    assert "Incorrect schedule" not in output


def test_a_recorded_run_computes_what_any_other_does(data, tmp_path):
    for name, flags in (("plain", {}), ("recorded", {"profile": True})):
        status, output = run_trainer(micro_flags(data, logs_dir=tmp_path, name=name, epochs=1, **flags))
        assert status == 0, output
    assert train_losses(tmp_path / "recorded") == train_losses(tmp_path / "plain")
