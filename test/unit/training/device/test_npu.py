"""What npu.py says of a machine without NPUs, and that it uses no name the published wheel lacks."""

import ast
import os
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from device_under_test import device_under_test
from training.device import npu as npu_file
from training.device.npu import NpuDevice

NAMES_FILE = Path(__file__).with_name("torch_npu_names.txt")


def listed_names():
    rows = [line.split("\t") for line in NAMES_FILE.read_text().splitlines() if line and not line.startswith("#")]
    return {name: (path, text) for name, path, text in rows}


def used_names():
    """Collect every attribute chain that starts at torch.npu or at the torch_npu package."""
    found = set()
    files = sorted(Path(npu_file.__file__).parent.glob("npu*.py"))
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        chain, root = [], node
        while isinstance(root, ast.Attribute):
            chain.append(root.attr)
            root = root.value
        source = ast.unparse(root)
        prefix = {"npu": "torch.npu", "_npu()": "torch.npu", "importlib.import_module('torch_npu')": "torch_npu"}
        if chain and source in prefix:
            found.add(".".join([prefix[source], *reversed(chain)]))
    return {name for name in found if not any(other.startswith(name + ".") for other in found)}


def test_every_torch_npu_name_in_use_is_on_the_list():
    assert used_names() == set(listed_names())


@pytest.mark.slow
def test_the_list_agrees_with_the_published_wheel():
    wheel = os.environ.get("TORCH_NPU_WHEEL")
    if not wheel:
        pytest.skip("set TORCH_NPU_WHEEL to a torch_npu wheel (`pip download --no-deps torch_npu==2.14.0`)")
    with zipfile.ZipFile(wheel) as archive:
        for name, (path, text) in listed_names().items():
            assert text in archive.read(path).decode(), f"{path} does not define {name} as `{text}`"


@pytest.mark.skipif(hasattr(torch, "npu"), reason="this machine has torch_npu or its simulator")
def test_without_torch_npu_the_reason_names_what_to_install():
    assert "pip install 'torch_npu==" in NpuDevice().missing()


def test_the_library_gives_up_before_torch_does():
    limits = NpuDevice().hang_environment(timeout_s=1800)
    assert int(limits["HCCL_EXEC_TIMEOUT"]) < 1800
    assert 120 <= int(limits["HCCL_CONNECT_TIMEOUT"]) <= 7200


def test_the_flight_recorder_runs_without_the_dump_that_holds_a_failed_process():
    environment = NpuDevice().hang_environment()
    assert int(environment["TORCH_HCCL_TRACE_BUFFER_SIZE"]) > 0
    assert not {"TORCH_HCCL_DUMP_ON_TIMEOUT", "TORCH_HCCL_ENABLE_MONITORING"} & set(environment)
    # On by default in every wheel, under two names: a user's "0" under the older one must keep its force.
    assert not [name for name in environment if "ASYNC_ERROR_HANDLING" in name]


def test_the_record_of_collectives_is_hccl_s(monkeypatch):
    dump = SimpleNamespace(_dump_hccl_trace_json=lambda: b'{"entries": ["all_reduce"]}')
    bindings = SimpleNamespace(_distributed_c10d=dump)
    monkeypatch.setitem(sys.modules, "torch_npu", SimpleNamespace(_C=bindings))
    assert NpuDevice().collective_trace() == '{"entries": ["all_reduce"]}'
    del dump._dump_hccl_trace_json
    assert NpuDevice().collective_trace() is None


@pytest.mark.skipif(os.environ.get("OPENCLIP_TEST_DEVICE") != "npu", reason="needs OPENCLIP_TEST_DEVICE=npu")
def test_only_a_chip_with_bfloat16_gets_the_fused_kernel(monkeypatch):
    device, target = device_under_test()
    weights = [torch.nn.Parameter(torch.zeros(2, device=target))]
    monkeypatch.setattr(device, "supports_bf16", lambda: True)
    assert device.optimizer_options(weights) == {"fused": True}
    monkeypatch.setattr(device, "supports_bf16", lambda: False)
    assert not device.optimizer_options(weights).get("fused")
