"""The device room on simulated NPUs, each test in a process of its own (npu_scripts.py says what runs there)."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from npu_session import REPO, ask_script, broken_env, run_python, simulator_env

SCRIPTS = REPO / "test" / "support" / "npu_scripts.py"
pytestmark = [pytest.mark.npu, pytest.mark.slow]


@pytest.fixture(scope="module")
def environment():
    return simulator_env(devices=2)


def answer(name, env):
    return ask_script(SCRIPTS, name, env)


def test_the_device_tests_pass_on_the_npu(environment):
    env = {**environment, "OPENCLIP_TEST_DEVICE": "npu", "NPUSIM_RACES": "error"}
    batches = ("test/unit/training/data/test_walk.py", "test/unit/training/loop/test_prefetch.py")
    done = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", "test/unit/training/device", *batches, env=env)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) >= 50, done.stdout[-500:]


def test_training_gives_the_losses_of_the_cpu(environment):
    losses = answer("losses", environment)
    # Same kernels underneath; the order of a few sums differs, which AdamW turns into steps where a gradient is near 0.
    assert losses["fp32"] == pytest.approx(losses["cpu"], rel=1e-4)
    # bfloat16 keeps 8 bits, fp16 keeps 11.
    assert losses["amp_bf16"] == pytest.approx(losses["cpu"], rel=3e-2)
    assert losses["amp"] == pytest.approx(losses["cpu"], rel=1e-2)


def test_a_chip_without_bfloat16_trains_in_fp16(environment):
    losses = answer("losses", {**environment, "NPUSIM_BF16": "0", "NPUSIM_NAME": "Ascend910A"})
    assert "amp_bf16" not in losses
    assert losses["amp"] == pytest.approx(losses["cpu"], rel=1e-2)


def test_training_sends_no_float64_to_the_device(environment):
    assert answer("losses", {**environment, "NPUSIM_FLOAT64": "error"})["amp"]


def test_the_device_computes_what_it_should_and_refuses_what_it_must(environment):
    refused = answer("tensors", {**environment, "NPUSIM_FLOAT64": "error"})
    assert all(refused.values()), refused
    assert "same device" in refused["mixed"]
    assert "same device" in refused["two devices"]
    assert "invalid device ordinal 7" in refused["ordinal"]
    assert "waiting is forbidden" in refused["item"]
    assert "float64" in refused["float64"]


def test_loader_workers_and_pinned_memory_work(environment):
    assert answer("loader", environment) is True


def test_a_forked_child_may_not_use_the_device(environment):
    assert "Cannot re-initialize NPU in forked subprocess" in answer("fork", environment)


def test_a_step_runs_no_operator_that_npus_do_badly(environment):
    counts = answer("census", environment)
    assert counts["aten::_fused_adamw_"] == 1
    slow = [name for name in counts if re.search(r"sort|nonzero|unique|masked_select|_unsafe_view_backward", name)]
    assert slow == []


def test_towers_attend_with_the_fused_kernel_and_leave_padding_out_without_waiting(environment):
    assert answer("texts", environment)["calls"] > 0


def test_losses_by_tiles_equal_those_of_the_cpu_and_wait_for_nothing(environment):
    counts = answer("tiled_losses", {**environment, "NPUSIM_FLOAT64": "error"})
    slow = [name for name in counts if re.search(r"sort|nonzero|unique|masked_select|logaddexp|_local_scalar", name)]
    assert slow == []


def test_memory_that_runs_out_is_recognised(environment):
    assert answer("memory", {**environment, "NPUSIM_MEMORY_MB": "64"}) is True


def test_two_ranks_train_over_hccl_to_equal_weights(environment):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    ranks = []
    for rank in range(2):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        env = {**environment, **place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, str(SCRIPTS), "distributed"]
        ranks.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    outputs = [rank.communicate(timeout=300) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(error[-2000:] for _, error in outputs)
    answers = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    assert answers[0] == answers[1]


def test_the_doctor_chooses_the_npu(environment):
    done = run_python("-m", "training.doctor", env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "device       npu: 2 usable" in done.stdout
    assert "one training step on npu:0 worked" in done.stdout


def test_a_wheel_without_cann_is_explained_and_the_cpu_still_works():
    done = run_python("-m", "training.doctor", "--device", "npu", env=broken_env())
    assert done.returncode == 6
    assert "source CANN's set_env.sh" in done.stdout
    done = run_python("-m", "training.doctor", "--device", "cpu", env=broken_env())
    assert done.returncode == 0, done.stdout


def test_nothing_imports_torch_npu_when_another_device_is_asked_for():
    # The broken stand-in would be loaded, and complain, by anything that imported it by name.
    script = "import training.device.startup as s; s.import_torch(); import sys, training.device.select as d;"
    script += "d.select_device('cpu').activate(); print('torch_npu' in sys.modules)"
    done = run_python("-c", script, env=broken_env())
    assert done.stdout.strip() == "False", done.stderr[-2000:]


def test_the_simulator_says_what_is_missing_when_it_is_not_compiled():
    env = broken_env()
    del env["NPUSIM_BROKEN"]
    done = run_python("-m", "training.doctor", "--device", "npu", env=env)
    assert done.returncode == 6
    assert Path("build.py").name in done.stdout


def test_ranking_runs_no_operator_that_npus_do_badly_and_gives_the_figures_of_the_cpu(environment):
    ranking = answer("ranking", {**environment, "NPUSIM_FLOAT64": "error"})
    assert ranking["npu"] == pytest.approx(ranking["cpu"], abs=2 / 150)
    slow = [name for name in ranking["counts"] if re.search(r"sort|nonzero|unique|masked_select", name)]
    assert slow == []
