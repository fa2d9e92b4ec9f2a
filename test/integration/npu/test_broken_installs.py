"""A machine whose torch_npu loads and whose card does not start, each program in a process of its own."""

import pytest

from npu_session import run_python, simulator_env

INIT_ERROR = (
    "SetPrecisionMode:build/CMakeFiles/torch_npu.dir/compiler_depend.ts:155 NPU function error: "
    "at_npu::native::AclSetCompileopt(aclCompileOpt::ACL_PRECISION_MODE, precision_mode), error code is 500001\n"
    "[Error]: The internal ACL of the system is incorrect.\n"
    "EC0010: Failed to import Python module [ModuleNotFoundError: No module named 'decorator'.]"
)
pytestmark = [pytest.mark.npu, pytest.mark.slow]


@pytest.fixture(scope="module")
def environment():
    return simulator_env(devices=1, NPUSIM_INIT_ERROR=INIT_ERROR)


def test_the_doctor_says_in_one_line_why_the_card_does_not_start(environment):
    done = run_python("-m", "training.doctor", "--device", "npu", env=environment)
    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("not ready")]
    # What torch_npu told before counts, although the card does not start.
    assert "CANN 0.0.simulated is in none of Ascend's lists" in done.stdout.partition("not ready")[0]
    assert "npu:0 does not start" in line
    assert "error code is 500001" in line
    assert "No module named 'decorator'" in line


def test_a_run_ends_with_the_status_of_a_device_and_says_the_same(environment, tmp_path):
    flags = ("--dataset-type", "synthetic", "--train-num-samples", "8", "--model", "RN50", "--device", "npu")
    done = run_python("-m", "training.main", *flags, "--logs", str(tmp_path), env=environment)
    assert done.returncode == 6, done.stderr[-2000:]
    assert "npu:0 does not start" in done.stderr
    assert "Traceback" not in done.stderr


def test_towers_are_not_compiled_where_the_compiler_is_missing(tmp_path):
    env = simulator_env(devices=1)
    flags = ("--dataset-type", "synthetic", "--train-num-samples", "8", "--model", "ViT-micro-8-32", "--device", "npu")
    done = run_python("-m", "training.main", *flags, "--torchcompile", "--logs", str(tmp_path / "logs"), env=env)
    assert done.returncode == 6, done.stderr[-2000:]
    assert "--torchcompile: " in done.stderr
    assert "pip install triton-ascend" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "logs").iterdir())
