import logging

import pytest
import torch

from open_clip.errors import ConfigError, DeviceError
from training.device import DEVICES, device_report, select_device
from training.device.base import Device
from training.device.cpu import CpuDevice


class AbsentDevice(CpuDevice):
    kind = "absent"

    def missing(self):
        return "its driver is asleep"


def test_the_cpu_is_always_there():
    device = select_device("cpu")
    assert device.missing() is None
    assert device.activate() == torch.device("cpu")


def test_auto_takes_the_first_usable_kind(monkeypatch):
    monkeypatch.setattr("training.device.select.DEVICES", {"absent": AbsentDevice, "cpu": CpuDevice})
    assert select_device("auto").kind == "cpu"


def test_auto_says_when_it_passes_over_an_installed_accelerator(monkeypatch, caplog):
    monkeypatch.setattr("training.device.select.DEVICES", {"absent": AbsentDevice, "cpu": CpuDevice})
    monkeypatch.setattr("training.device.select.installed_backends", lambda: ("torch_absent",))
    with caplog.at_level(logging.WARNING):
        select_device("auto")
    assert "takes cpu and passes over absent: its driver is asleep" in caplog.text


def test_auto_on_the_cpu_says_why_in_one_line(monkeypatch, caplog):
    monkeypatch.setattr("training.device.select.DEVICES", {"absent": AbsentDevice, "cpu": CpuDevice})
    with caplog.at_level(logging.INFO):
        select_device("auto")
    assert caplog.messages == ["--device auto takes cpu and passes over absent: its driver is asleep"]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        select_device("cpu", processes=8)
    assert not caplog.messages


def test_auto_puts_several_processes_on_no_cpu_and_says_why_there_is_no_card(monkeypatch):
    monkeypatch.setattr("training.device.select.DEVICES", {"absent": AbsentDevice, "cpu": CpuDevice})
    with pytest.raises(DeviceError, match=r"8 processes.*\(absent: its driver is asleep\).*--device=cpu"):
        select_device("auto", processes=8)


def test_a_missing_device_says_why_and_how_to_ask_for_the_cpu(monkeypatch):
    monkeypatch.setattr("training.device.select.DEVICES", {"absent": AbsentDevice, "cpu": CpuDevice})
    with pytest.raises(DeviceError, match="its driver is asleep") as caught:
        select_device("absent:1")
    assert "--device cpu" in str(caught.value)


def test_a_misspelt_device_is_met_with_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean cuda"):
        select_device("cuda0")


@pytest.mark.parametrize("name", ["cpu:", "cpu:one", "cpu:-1"])
def test_an_index_that_is_no_number_is_refused(name):
    with pytest.raises(ConfigError, match="must be a number"):
        select_device(name)


def test_an_index_beyond_the_last_device_is_refused():
    with pytest.raises(DeviceError, match="only 1 of them"):
        select_device("cpu:3")


def test_the_report_covers_every_kind():
    report = dict((device.kind, reason) for device, reason in device_report())
    assert set(report) == set(DEVICES)
    assert report["cpu"] is None
    assert all("\n" not in reason for reason in report.values() if reason)


@pytest.mark.parametrize("device_class", DEVICES.values(), ids=list(DEVICES))
def test_every_kind_states_its_fixed_answers_without_touching_hardware(device_class):
    device: Device = device_class(1)
    assert device.index == 1
    assert device.text_shapes in ("packed", "bucketed", "padded")
    assert device.collective_backend
    assert all(isinstance(value, str) for value in device.hang_environment(600).values())
    assert torch.profiler.ProfilerActivity.CPU in device.profiler_activities()
