"""The record of steps never costs the run."""

import logging
from types import SimpleNamespace

from training.device.cpu import CpuDevice
from training.distributed import World
from training.tracing import StepTrace


class Refusing(CpuDevice):
    """A device whose own profiler does not take the folder, as torch_npu's does not take a link."""

    def step_profiler(self, folder, name, steps):
        raise RuntimeError(f"Invalid input path is a soft chain: {folder}")


def test_a_profiler_that_refuses_the_folder_leaves_the_table_of_torch_s(tmp_path, caplog):
    place = SimpleNamespace(world=World(), folder=SimpleNamespace(profile=tmp_path / "profile"), device=Refusing())
    trace = StepTrace(2, 10, place)
    with caplog.at_level(logging.INFO):
        for step in range(1, 11):
            trace.step_done(step)
    assert "soft chain" in caplog.text
    assert "steps 9 to 10: what took longest" in caplog.text
    assert list((tmp_path / "profile").iterdir()) == []
