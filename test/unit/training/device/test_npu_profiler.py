"""torch_npu's profiler as the trainer uses it, where torch_npu or its simulator is there."""

import functools
import multiprocessing
import os

import pytest

from device_under_test import device_under_test

DEVICE, TORCH_DEVICE = device_under_test()
pytestmark = pytest.mark.skipif(DEVICE.kind != "npu", reason="needs OPENCLIP_TEST_DEVICE=npu")


def record(folder, steps=2):
    profiler = DEVICE.step_profiler(folder, "rank-0", steps)
    profiler.start()
    for _ in range(steps):
        profiler.step()
    return profiler.stop()


def test_what_is_recorded_is_made_readable_and_named(tmp_path):
    said = record(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert str(folder) in said
    assert (folder / "ASCEND_PROFILER_OUTPUT").is_dir()


def test_the_record_of_an_earlier_start_is_not_taken_for_this_one(tmp_path):
    earlier = tmp_path / "rank-0_1_20260101000000000_ascend_pt"
    (earlier / "ASCEND_PROFILER_OUTPUT").mkdir(parents=True)
    os.utime(earlier, (2**32, 2**32))
    said = record(tmp_path)
    assert str(earlier) not in said
    assert f"{tmp_path}/rank-0_{os.getpid()}_" in said


def test_the_way_in_which_this_process_starts_others_stays(tmp_path):
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        record(tmp_path)
        assert multiprocessing.get_start_method() == "spawn"
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_a_record_that_could_not_be_written_is_an_error_that_torch_npu_did_not_raise(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="wrote no record"):
        record(tmp_path / "file" / "folder")
    capsys.readouterr()


def test_a_record_that_was_not_made_readable_is_named_with_what_makes_it_so(tmp_path, monkeypatch):
    import torch_npu.profiler

    raw_only = functools.partial(torch_npu.profiler.tensorboard_trace_handler, analyse_flag=False)
    monkeypatch.setattr(torch_npu.profiler, "tensorboard_trace_handler", raw_only)
    with pytest.raises(OSError, match="was not made readable") as caught:
        record(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert f"analyse('{folder}')" in str(caught.value)
