import pytest

from training.device.inventory import device_variables, judge_installation, software_versions, tool_output

INFO = """#!/bin/sh
cat <<'END'
+------------------------------------------------------------------------------------------------+
| npu-smi 25.2.0                   Version: 25.2.0                                               |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 93.4        41                0    / 0             |
+===========================+===============+====================================================+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 0       0                 | 4242          | secret_project           | 60000                   |
END
"""


def test_versions_are_read_from_the_files_of_driver_firmware_and_cann(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    for name, text in {
        "driver/version.info": "Version=25.2.0\nascendhal_version=7.35.23\npackage_version=25.2.0\n",
        "firmware/version.info": "Version=7.7.0.6.236\nfirmware_version=1.0\n",
        "cann/aarch64-linux/ascend_toolkit_install.info": "package_name=Ascend-cann-toolkit\nversion=8.3.RC1\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    expected = {"driver": "25.2.0", "firmware": "7.7.0.6.236", "cann": "8.3.RC1"}
    assert software_versions({"ASCEND_HOME_PATH": str(tmp_path / "cann")}, tmp_path) == expected
    (tmp_path / "cann/aarch64-linux/ascend_toolkit_install.info").unlink()
    (tmp_path / "cann/version.cfg").write_text("# version: 1.0\nruntime_running_version=[8.2.0.1.220:8.2.RC1]\n")
    assert software_versions({}, tmp_path)["cann"] == "8.2.0.1.220:8.2.RC1"
    assert software_versions({}, tmp_path / "nothing") == {}


def test_only_variables_of_devices_are_told():
    environ = {"HCCL_IF_IP": "1", "PYTORCH_NPU_ALLOC_CONF": "2", "HOME": "3", "MY_KEY": "4", "OMP_NUM_THREADS": "5"}
    assert list(device_variables(environ)) == ["HCCL_IF_IP", "OMP_NUM_THREADS", "PYTORCH_NPU_ALLOC_CONF"]


@pytest.mark.parametrize(
    "script,said", [(INFO, "910B3"), ("#!/bin/sh\necho 'dcmi failed' >&2; exit 1\n", "dcmi failed")]
)
def test_the_vendors_tool_is_asked_and_other_peoples_processes_stay_out(tmp_path, monkeypatch, script, said):
    tool = tmp_path / "npu-smi"
    tool.write_text(script)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    text = tool_output()["npu-smi info"]
    assert said in text
    assert "secret_project" not in text


def test_versions_that_the_device_tells_are_judged():
    told = {"torch_npu": "2.9.0", "cann": "8.5.0", "driver": ""}
    line = judge_installation(told)
    assert "compiled against torch 2.9.0" in line or "released together" in line
    assert judge_installation({"torch_npu": "9.9.9"}) != line
