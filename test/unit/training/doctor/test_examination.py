import pytest

from training.device.cpu import CpuDevice
from training.doctor import examination
from training.doctor.__main__ import main


def test_a_sound_machine_is_ready_and_every_trial_has_its_error(capsys):
    assert main(["--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    devices = [line for line in lines if line.startswith("device ")]
    assert len(devices) == 3
    assert all("usable" in line or "no: " in line for line in devices)
    assert any(line.startswith("chosen       --device cpu takes cpu") for line in lines)
    assert sum(line.startswith("fast  ") for line in lines) == 2
    assert any("not apex_o1, apex_o2, npu_amp" in line for line in lines)
    tried = [line.removeprefix("tried").strip() for line in lines if line.startswith("tried")]
    assert [line.partition(",")[0].partition(":")[0] for line in tried] == [
        "attention",
        "attention",
        "autocast",
        "loss scale",
        "all-reduce",
    ]
    assert all("max abs error" in line for line in tried if not line.startswith("loss scale"))
    assert "2 processes, gloo: max abs error 0.000e+00" in tried[-1]
    assert lines[-1].startswith("ready        one training step on cpu worked")


def test_a_device_of_no_known_name_ends_with_the_status_of_a_wrong_flag(capsys):
    assert main(["--device", "abacus"]) == 2
    assert "not ready    --device abacus: there is no such device" in capsys.readouterr().out


@pytest.mark.parametrize("error", [ImportError("libtorch.so: wrong ELF class"), OSError("libgomp is missing")])
def test_a_torch_that_does_not_import_is_explained(monkeypatch, capsys, error):
    def fail():
        raise error

    monkeypatch.setattr(examination, "import_torch", fail)
    assert main([]) == 6
    assert f"not ready    torch does not import: {error}" in capsys.readouterr().out


def test_precisions_that_lack_the_same_thing_share_a_line(capsys):
    class Old(CpuDevice):
        def supports_bf16(self):
            return False

    examination._say_precisions(Old())
    lacking = [line for line in capsys.readouterr().out.splitlines() if "no bfloat16" in line]
    assert len(lacking) == 1
    assert lacking[0].startswith("precision    not amp_bf16, amp_bfloat16, bf16, pure_bf16: ")
