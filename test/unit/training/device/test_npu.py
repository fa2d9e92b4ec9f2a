"""What npu.py says of a machine without NPUs, and that it uses no name the published wheels lack."""

import ast
import os
import re
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

from device_under_test import device_under_test
from training.device import npu as npu_file
from training.device.npu import NpuDevice

NAMES_FILE = Path(__file__).with_name("torch_npu_names.txt")


class Row(NamedTuple):
    """A name of torch_npu that is used here, and where a wheel defines it."""

    name: str
    since: str
    path: str
    text: str
    keywords: str = ""


def listed_names():
    lines = NAMES_FILE.read_text().splitlines()
    return {row.name: row for row in (Row(*line.split("\t")) for line in lines if line and not line.startswith("#"))}


def nodes():
    files = sorted(Path(npu_file.__file__).parent.glob("npu*.py"))
    return [node for file in files for node in ast.walk(ast.parse(file.read_text()))]


def full_name(node):
    """Return the torch_npu name that an attribute chain spells, or None."""
    chain = []
    while isinstance(node, ast.Attribute):
        chain.append(node.attr)
        node = node.value
    prefix = {
        "npu": "torch.npu",
        "npu_module()": "torch.npu",
        "package": "torch_npu.profiler",
        "importlib.import_module('torch_npu')": "torch_npu",
    }.get(ast.unparse(node))
    return ".".join([prefix, *reversed(chain)]) if prefix and chain else None


def used_names():
    found = {full_name(node) for node in nodes()} - {None}
    return {name for name in found if not any(other.startswith(name + ".") for other in found)}


def parameters_of(source, text):
    """Return the parameters of the function, or of the class's constructor, that a text begins."""
    line = source[: source.index(text)].count("\n") + 1
    (node,) = [node for node in ast.walk(ast.parse(source)) if getattr(node, "lineno", None) == line and has_body(node)]
    if isinstance(node, ast.ClassDef):
        node = next(part for part in node.body if getattr(part, "name", "") in ("__init__", "__new__"))
    return {argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]}


def has_body(node):
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


def version_of(wheel):
    return tuple(int(part) for part in re.match(r"torch_npu-([\d.]+)", Path(wheel).name)[1].strip(".").split("."))


def test_every_torch_npu_name_in_use_is_on_the_list():
    assert used_names() == set(listed_names())


def test_every_keyword_that_is_given_is_on_the_list():
    listed = listed_names()
    calls = [node for node in nodes() if isinstance(node, ast.Call) and full_name(node.func) in listed]
    # Bound once and called elsewhere: by what it is bound to.
    bound = {"self._kernel": "torch_npu.npu_fusion_attention", "scaler_class()": "torch.npu.amp.GradScaler"}
    calls += [node for node in nodes() if isinstance(node, ast.Call) and ast.unparse(node.func) in bound]
    for call in calls:
        name = full_name(call.func) or bound[ast.unparse(call.func)]
        assert {keyword.arg for keyword in call.keywords} <= set(listed[name].keywords.split()), name


@pytest.mark.slow
def test_the_list_agrees_with_the_published_wheels():
    wheels = os.environ.get("TORCH_NPU_WHEEL")
    if not wheels:
        pytest.skip(
            "set TORCH_NPU_WHEEL to torch_npu wheels (`pip download --no-deps torch_npu==2.14.0`), colons between"
        )
    for wheel in wheels.split(os.pathsep):
        with zipfile.ZipFile(wheel) as archive:
            for row in listed_names().values():
                if version_of(wheel) < tuple(map(int, row.since.split("."))):
                    continue
                content = archive.read(row.path)
                assert row.text.encode() in content, f"{wheel}: {row.path} does not define {row.name} as `{row.text}`"
                if row.keywords:
                    missing = set(row.keywords.split()) - parameters_of(content.decode(), row.text)
                    assert not missing, f"{wheel}: {row.name} takes no {missing}"


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
@pytest.mark.parametrize(
    "chip, has_bf16, has_kernels",
    [
        ("Ascend910B1", True, True),
        ("Ascend910_9391", True, True),
        ("Ascend910A", False, False),
        ("Ascend310B1", True, False),
    ],
)
def test_only_training_chips_from_910b_on_get_fused_kernels(monkeypatch, chip, has_bf16, has_kernels):
    device, target = device_under_test()
    weights = [torch.nn.Parameter(torch.zeros(2, device=target))]
    monkeypatch.setattr(torch.npu, "get_device_name", lambda index=None: chip)
    monkeypatch.setattr(torch.npu, "is_bf16_supported", lambda: has_bf16)
    registered = {}
    monkeypatch.setattr("training.device.npu.register_attention", registered.__setitem__)
    assert device.optimizer_options(weights).get("fused", False) is has_kernels
    device.activate()
    assert (registered["npu"] is not None) is has_kernels
