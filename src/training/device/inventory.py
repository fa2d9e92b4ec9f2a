"""What a machine has of an accelerator's software, found without loading any of it: packages, variables, files, tools.

For reports that people send. All is read from the outside, so it works where the plug-in or its driver is broken.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from open_clip.files import read_plain
from training.device.pairs import judge_versions
from training.device.startup import installed_backends

# CANN compiles and describes operators in Python and imports these from the interpreter that runs it; torch_npu's wheel
# does not ask for them.
_HOST_PACKAGES = {"torch_npu": ("attrs", "decorator", "psutil", "scipy")}
# Variables that change what a device does, by how their names begin.
_VARIABLES = re.compile(
    r"(ASCEND|ACL|HCCL|CANN|NPU|TORCH_|PYTORCH_|CUDA|NCCL|GLOO|OMP_|MKL_|KMP_|TASK_QUEUE|CPU_AFFINITY|INF_NAN"
    r"|COMBINED_ENABLE|MULTI_STREAM|LD_LIBRARY_PATH$|LD_PRELOAD$|TORCHDYNAMO|TORCHINDUCTOR)"
)
_TOOLS = {
    "npu-smi": ("info",),
    "nvidia-smi": ("--query-gpu=index,name,driver_version,memory.total,memory.used,temperature.gpu", "--format=csv"),
}
_DRIVER_ROOT = Path("/usr/local/Ascend")
_TOOL_LIMIT_S = 20.0
_LONGEST_FILE = 1 << 16


def host_packages() -> dict[str, tuple[str, ...]]:
    """Name the Python packages that each installed plug-in needs beside its own requirements."""
    return {name: needed for name, needed in _HOST_PACKAGES.items() if name in installed_backends()}


def installed_version(name: str) -> str | None:
    """Return an installed package's version."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def judge_installation(told: Mapping[str, str]) -> str | None:
    """Say in one line whether plug-in, torch, CANN, driver and Python are versions that were published together.

    Args:
        told: Versions that the device itself tells, as ``DeviceInfo.versions`` has them; files and package metadata
            stand in for what is missing.

    Returns:
        None where no plug-in with such a list is installed.
    """
    plugin = told.get("torch_npu") or installed_version("torch_npu")
    if plugin is None:
        return None
    # An empty text is how torch_npu says that it does not know.
    found = software_versions() | {name: number for name, number in told.items() if number}
    return judge_versions(
        torch_npu=plugin,
        torch=installed_version("torch"),
        cann=found.get("cann"),
        driver=found.get("driver"),
        python=platform.python_version(),
    ).line


def device_variables(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables that change what a device does, by name."""
    return {name: environ[name] for name in sorted(environ) if _VARIABLES.match(name)}


def software_versions(environ: Mapping[str, str] = os.environ, root: Path = _DRIVER_ROOT) -> dict[str, str]:
    """Return what the version files of driver, firmware and CANN say; what has no file is left out.

    Source: layout of Ascend's packages: ``driver/version.info``, ``firmware/version.info`` and, for CANN, the install
    information under ``ASCEND_HOME_PATH``.
    """
    home = Path(environ.get("ASCEND_HOME_PATH") or environ.get("ASCEND_TOOLKIT_HOME") or root / "cann")
    places = {
        "driver": [root / "driver" / "version.info"],
        "firmware": [root / "firmware" / "version.info"],
        "cann": [
            home / f"{platform.machine()}-linux" / "ascend_toolkit_install.info",
            home / f"{platform.machine()}-linux" / "ascend_nnae_install.info",
            home / "version.cfg",
        ],
    }
    found = {name: next(filter(None, map(_read_version, files)), None) for name, files in places.items()}
    return {name: text for name, text in found.items() if text is not None}


def tool_output() -> dict[str, str]:
    """Return what the vendors' tools say of the cards, by command; without the tables of other people's processes."""
    said = {}
    for tool, arguments in _TOOLS.items():
        path = shutil.which(tool)
        if path is None:
            continue
        try:
            done = subprocess.run(
                [path, *arguments], capture_output=True, text=True, errors="replace", timeout=_TOOL_LIMIT_S
            )
            text = done.stdout.strip() or done.stderr.strip()
        except (OSError, subprocess.TimeoutExpired) as error:
            text = f"does not answer: {error}"
        said[" ".join([tool, *arguments])] = _before_processes(text)
    return said


def _before_processes(text: str) -> str:
    lines = text.splitlines()
    end = next((at for at, line in enumerate(lines) if re.search(r"\bprocess", line, re.IGNORECASE)), len(lines))
    return "\n".join(lines[:end]).strip()


def _read_version(path: Path) -> str | None:
    try:
        text = read_plain(path, _LONGEST_FILE).decode("utf-8", "replace")
    except OSError:
        return None
    match = re.search(r"(?mi)^\s*(?:runtime_running_version|version)\s*=\s*\[?([^\s\]\[]+)", text)
    return match[1] if match else None
