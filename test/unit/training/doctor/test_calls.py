import inspect

import pytest
import torch

from training.device import Device
from training.device.cpu import CpuDevice
from training.doctor.calls import answer_of, device_calls, questions
from training.doctor.parts import Conditions

CONDITIONS = Conditions("cpu", "ViT-micro-8-32", 4, 1.0)


def ask(device, name):
    return answer_of(name, questions(device)[name])


def test_every_method_of_a_device_is_asked():
    public = {name for name, one in inspect.getmembers(Device, inspect.isfunction) if not name.startswith("_")}
    assert set(questions(CpuDevice())) == public


def test_the_cpu_answers_everything():
    findings = list(device_calls(CONDITIONS, 10.0))
    assert [finding.what for finding in findings if finding.state != "ok"] == []
    assert len(findings) == len(questions(CpuDevice()))
    assert all(finding.cells["answer"] for finding in findings)


class Faulty(CpuDevice):
    """A device that gets several things wrong, each in its own way."""

    def is_out_of_memory(self, error):
        return False

    def peak_memory_bytes(self):
        return 0

    def read_later(self, values):
        return lambda: [0.0]

    def move(self, tensor):
        return tensor + 1

    def rng_state(self):
        return torch.get_rng_state()

    def set_rng_state(self, state):
        return None

    def optimizer_options(self, parameters):
        return {"maximize": True}

    def count(self):
        raise RuntimeError("error code is 507033\n[ERROR] more")


@pytest.mark.parametrize(
    "name,why",
    [
        ("is_out_of_memory", "not seen as such: RuntimeError"),
        ("peak_memory_bytes", "0 bytes, while 4194304 are held"),
        ("read_later", "other values came back"),
        ("move", "the copy differs"),
        ("set_rng_state", "one state gave two draws"),
        ("optimizer_options", "moved weights by -0.1"),
    ],
)
def test_a_wrong_answer_is_found(name, why):
    assert ask(CpuDevice(), name).state == "ok"
    found = ask(Faulty(), name)
    assert found.state == "wrong"
    assert why in found.why


def test_an_error_is_one_line():
    found = ask(Faulty(), "count")
    assert (found.state, found.why) == ("failed", "RuntimeError: error code is 507033")


def test_a_flag_that_keeps_no_weights_is_found():
    class Plain(CpuDevice):
        def optimizer_options(self, parameters):
            return {"foreach": True}

        def can_skip_update(self, optimizer):
            return True

    assert ask(CpuDevice(), "can_skip_update").state == "ok"
    assert ask(Plain(), "can_skip_update").state == "failed"
