"""Start-up without a broken accelerator plug-in taking torch down; the real thing is in test/integration/npu."""

from importlib.metadata import EntryPoint

from training.device import startup


def test_a_plugin_that_fails_is_remembered_by_its_first_line(monkeypatch):
    monkeypatch.setattr(startup, "_faults", {})
    startup._load(EntryPoint("torch_npu", f"{__name__}_absent:load", "torch.backends"))
    assert "No module named" in startup.backend_fault("torch_npu")


def test_a_second_import_changes_nothing(monkeypatch):
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "1")
    assert startup.import_torch() == {}


def test_an_ascend_plugin_without_cann_is_met_with_what_to_source():
    text = startup.describe_fault("torch_npu", "libhccl.so: cannot open shared object file")
    assert "set_env.sh" in text
    assert "libhccl.so" in text


def test_a_clash_of_accelerators_is_met_with_the_cpu_build():
    assert "CPU build of torch" in startup.describe_fault(
        "torch_npu", "Two accelerators cannot be used at the same time"
    )
