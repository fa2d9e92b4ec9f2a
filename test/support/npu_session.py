"""Environments for subprocesses that see simulated NPUs, or a broken installation of them."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._C._distributed_c10d import Backend

from warm_python import run_warm

REPO = Path(__file__).resolve().parents[2]
SIMULATOR = Path(__file__).with_name("npu_simulator")


@cache
def _simulator_path() -> str:
    spec = importlib.util.spec_from_file_location("npu_simulator_build", SIMULATOR / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    return build.python_path()


def simulator_env(devices: int = 2, **settings: str) -> dict[str, str]:
    """Return an environment in which ``import torch`` brings simulated NPUs; the first use compiles them.

    Args:
        devices: How many there are.
        settings: More variables, such as ``NPUSIM_BF16="0"``; README.md of the simulator lists them.

    Raises:
        RuntimeError: The simulator does not compile here; the message says why.
    """
    paths = [_simulator_path(), str(REPO / "src"), str(REPO / "test" / "support")]
    fixed = {
        "PYTHONPATH": os.pathsep.join(paths),
        "NPUSIM_DEVICES": str(devices),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return {**os.environ, **fixed, **settings}


def skip_without_hccl() -> None:
    """Skip a test of several npu processes where torch takes no backend written in Python, as the simulated hccl is."""
    try:
        Backend(0, 1)
    except TypeError:
        pytest.skip(f"torch {torch.__version__} takes no collective backend written in Python, as 2.14 does")


def broken_env() -> dict[str, str]:
    """Return an environment like that of a wheel without CANN: the plug-in is found and fails as torch loads it."""
    fault = "libhccl.so: cannot open shared object file: No such file or directory"
    paths = [str(SIMULATOR / "site"), str(REPO / "src"), str(REPO / "test" / "support")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "NPUSIM_BROKEN": fault}


def run_python(
    *arguments: str, env: dict[str, str], timeout_s: float = 300, cwd: Path = REPO
) -> subprocess.CompletedProcess[str]:
    """Run this Python with arguments in an environment and return what it printed, whatever its status."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout_s)


def ask_script(path: Path, name: str, env: dict[str, str], cwd: Path = REPO) -> Any:
    """Have a script do what it calls by a name, and return what its last line says in JSON."""
    statuses, output = run_warm((path, name), env, timeout_s=300, cwd=cwd)
    assert statuses == [0], output[-3000:]
    return json.loads(output.splitlines()[-1])
