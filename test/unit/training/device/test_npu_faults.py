"""What is said of an Ascend machine that is half installed."""

import importlib
import pwd
import sys

import pytest

from training.device.npu_faults import advise_on_loading, explain_compiler, explain_start, find_set_env
from training.device.startup import describe_fault

VERSIONS = {"torch_npu": "2.7.1", "cann": "8.2.RC1", "driver": "24.1.rc3"}
# The form of torch_npu's errors: the call, then its own words, then CANN's report.
REFUSED = (
    "SetPrecisionMode:build/CMakeFiles/torch_npu.dir/compiler_depend.ts:155 NPU function error: "
    "at_npu::native::AclSetCompileopt(aclCompileOpt::ACL_PRECISION_MODE, precision_mode), error code is {code}\n"
    "[ERROR] 2025-04-28-02:50:24 (PID:1439, Device:0, RankID:-1) ERR00100 PTA call acl api failed\n"
    "[Error]: The internal ACL of the system is incorrect.\n{report}\n"
)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose CANN, if any, lies under this folder."""
    monkeypatch.setenv("ASCEND_INSTALL_INFO", str(tmp_path / "absent.info"))
    monkeypatch.setenv("ASCEND_ROOT", str(tmp_path / "Ascend"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    return tmp_path


def install(root, layout):
    script = root / layout / "set_env.sh"
    script.parent.mkdir(parents=True)
    script.touch()
    return script


def explain(code, report="EH9999: Inner Error!"):
    return explain_start("npu:0", RuntimeError(REFUSED.format(code=code, report=report)), VERSIONS)


def test_the_script_that_is_installed_is_the_one_to_source(machine):
    assert find_set_env() is None
    older = install(machine / "Ascend", "ascend-toolkit")
    assert find_set_env() == older
    assert f"`source {older}`" in advise_on_loading("libhccl.so: cannot open shared object file")
    newer = install(machine / "Ascend", "cann")
    assert f"`source {newer}`" in advise_on_loading("libhccl.so: cannot open shared object file")


def test_a_user_s_own_cann_and_the_place_an_installer_noted_are_found(machine, monkeypatch):
    own = install(machine / "home" / "Ascend", "cann")
    assert find_set_env() == own
    (machine / "noted.info").write_text(f"Version=1\nInstall_Path={machine / 'elsewhere'}\n")
    monkeypatch.setenv("ASCEND_INSTALL_INFO", str(machine / "noted.info"))
    assert find_set_env() == own
    assert find_set_env() != install(machine / "elsewhere", "nnae")
    assert find_set_env() == machine / "elsewhere" / "nnae" / "set_env.sh"


def test_a_user_without_a_home_is_advised_too(machine, monkeypatch):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert "CANN was not found in" in advise_on_loading("libhccl.so: cannot open shared object file")


def test_a_machine_without_cann_is_told_to_install_it(machine):
    advice = advise_on_loading("libascendcl.so: cannot open shared object file")
    assert f"CANN was not found in {machine / 'Ascend'} or {machine / 'home' / 'Ascend'}" in advice


def test_a_driver_that_is_not_mounted_is_not_taken_for_cann(machine):
    install(machine / "Ascend", "cann")
    text = describe_fault("torch_npu", "libascend_hal.so: cannot open shared object file: No such file or directory")
    assert "mount /usr/local/Ascend/driver" in text
    assert "/dev/davinci_manager" in text
    assert "set_env.sh" not in text
    assert "mount" not in describe_fault("torch_npu", "libhccl.so: cannot open shared object file").split("source")[0]


def test_a_folder_of_cann_that_is_gone_is_named(machine, monkeypatch):
    script = install(machine / "Ascend", "cann")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(machine / "Ascend" / "ascend-toolkit" / "latest"))
    text = describe_fault("torch_npu", "ASCEND_HOME_PATH : /x does not exist")
    assert f"ASCEND_HOME_PATH names {machine / 'Ascend' / 'ascend-toolkit' / 'latest'}, which is not there" in text
    assert f"`source {script}`" in text
    monkeypatch.setenv("ASCEND_HOME_PATH", str(machine))
    assert "which is not there" not in describe_fault("torch_npu", "libhccl.so: cannot open shared object file")


def test_libraries_of_another_cann_are_recognised(machine):
    install(machine / "Ascend", "cann")
    advice = advise_on_loading("libgraph_base.so: undefined symbol: _ZN2ge16GetSanitizedNameERKSs")
    assert "not one for this torch_npu" in advice
    assert "in a new shell" in advice


def test_a_compiler_that_does_not_start_is_met_with_kernels_and_packages():
    text = explain(500001)
    assert text.startswith("npu:0 does not start with torch_npu 2.7.1, CANN 8.2.RC1, driver 24.1.rc3 (SetPrecision")
    assert "error code is 500001" in text
    assert "kernels (ops) for this chip" in text
    assert "attrs decorator psutil scipy" in text
    assert "\n" not in text


def test_a_package_that_cann_lacks_is_named():
    text = explain(500001, "EC0010: Failed to import Python module [ModuleNotFoundError: No module named 'decorator'.]")
    assert "No module named 'decorator'" in text
    assert text.endswith("CANN's compiler lacks a Python package here: `pip install attrs decorator psutil scipy`.")


@pytest.mark.parametrize("code", [507033, 507899, 500004])
def test_a_card_that_the_driver_does_not_open_is_met_with_npu_smi(code):
    assert "the driver does not let this process use the card" in explain(code)
    assert "attrs" not in explain(code)


def test_versions_that_ascend_did_not_publish_together_are_said_to_be_the_thing_to_change():
    apart = {"torch_npu": "2.7.1", "cann": "9.2.0", "driver": "26.2.0"}
    text = explain_start("npu:0", RuntimeError(REFUSED.format(code=500001, report="")), apart)
    assert "torch_npu 2.7.1 and CANN 9.2.0 are not a published pair: install CANN 8.3.RC1" in text
    assert "not a published pair" not in explain(500001)


def test_an_error_that_is_not_known_and_versions_that_are_not_told():
    text = explain_start("npu:3", RuntimeError("Get ACL JitCompile default value failed"), {"torch_npu": "2.9.0"})
    assert "npu:3 does not start with torch_npu 2.9.0, a CANN of unknown version (Get ACL JitCompile" in text
    assert "npu-smi info" in text


@pytest.mark.parametrize("backend,fault", [("nvidia", "this triton is not Ascend's"), ("ascend", None)])
def test_the_compiler_is_looked_for_and_not_imported(tmp_path, monkeypatch, backend, fault):
    (tmp_path / "triton" / "backends" / backend).mkdir(parents=True)
    (tmp_path / "triton" / "__init__.py").write_text("raise OSError('no driver')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    said = explain_compiler()
    assert said is None if fault is None else said.startswith(f"{fault}; ")


def test_a_compiler_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    importlib.invalidate_caches()
    assert "pip install triton-ascend" in explain_compiler()
    assert explain_compiler().startswith("triton is not installed")
