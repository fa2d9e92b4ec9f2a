import pytest

from training import doctor


def test_a_sound_machine_is_ready(capsys):
    assert doctor.main(["--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "chosen       --device cpu takes cpu" in printed
    assert "ready        one training step on cpu worked" in printed
    assert printed.count("\nfast         ") == 2


def test_every_device_is_listed_with_its_reason(capsys):
    doctor.main(["--device", "cpu"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("device ")]
    assert len(lines) == 3
    assert all("usable" in line or "no: " in line for line in lines)


def test_a_device_of_no_known_name_ends_with_the_status_of_a_wrong_flag(capsys):
    assert doctor.main(["--device", "abacus"]) == 2
    assert "not ready    --device abacus: there is no such device" in capsys.readouterr().out


@pytest.mark.parametrize("error", [ImportError("libtorch.so: wrong ELF class"), OSError("libgomp is missing")])
def test_a_torch_that_does_not_import_is_explained(monkeypatch, capsys, error):
    def fail():
        raise error

    monkeypatch.setattr(doctor, "import_torch", fail)
    assert doctor.main([]) == 6
    assert f"not ready    torch does not import: {error}" in capsys.readouterr().out


def test_a_precision_that_cannot_run_says_what_it_needs(capsys):
    doctor.main(["--device", "cpu"])
    assert "not apex_o1, apex_o2, npu_amp" in capsys.readouterr().out
