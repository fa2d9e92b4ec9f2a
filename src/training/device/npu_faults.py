"""Why torch_npu does not load or a card does not start, and what to do about it. Imports no torch, changes nothing."""

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from open_clip.errors import first_line, printable
from training.device.pairs import judge_versions

# The driver's own libraries: a container has them only where the machine's are mounted.
_DRIVER_LIBRARY = re.compile(r"\blib(ascend_hal|drv\w+|dcmi)\.so")
_ERROR_CODE = re.compile(r"error code is (\d+)")
_MISSING_MODULE = re.compile(r"No module named '[\w.]+'")
_PAIRS = "docs/ascend.md says which versions go together"
_PYTHON_NEEDS = "`pip install attrs decorator psutil scipy`"
# CANN from 8.5 on, before it, and its package without tools.
_LAYOUTS = ("cann", "ascend-toolkit", "nnae")


def find_set_env() -> Path | None:
    """Find the script that sets CANN's environment, of the newest layout that is installed; None without CANN."""
    for root in _cann_roots():
        for layout in _LAYOUTS:
            script = root / layout / "set_env.sh"
            if os.access(script, os.R_OK):
                return script
    return None


def advise_on_loading(reason: str) -> str:
    """Say what to do about a torch_npu that does not load for this reason."""
    if _DRIVER_LIBRARY.search(reason):
        return (
            "the driver is not visible here. In a container, mount /usr/local/Ascend/driver and pass the cards "
            "(/dev/davinci0 and so on), /dev/davinci_manager, /dev/devmm_svm and /dev/hisi_hdc; on the machine itself, "
            "install it"
        )
    script = find_set_env()
    advice = f"source CANN's set_env.sh (`source {script}`) and try again"
    if script is None:
        roots = " or ".join(str(root) for root in _cann_roots())
        advice = f"CANN was not found in {roots}; install it, source CANN's set_env.sh and try again"
    home = os.environ.get("ASCEND_HOME_PATH")
    if home and not os.path.isdir(home):
        return f"ASCEND_HOME_PATH names {printable(home)}, which is not there; {advice}"
    if "undefined symbol" in reason:
        return f"this CANN is not one for this torch_npu ({_PAIRS}), or two are mixed: in a new shell, {advice}"
    return advice


def explain_start(card: str, error: BaseException, versions: Mapping[str, str]) -> str:
    """Say in one line that a card does not start, with which versions, and what to do.

    Args:
        card: Its name, as in ``npu:0``.
        error: What torch_npu raised; its later lines hold CANN's own report.
        versions: Of torch_npu, CANN and the driver, as far as they are known.
    """
    reason, report = first_line(error), str(error)
    found = {name: versions.get(name) for name in ("torch_npu", "cann", "driver")}
    judged = judge_versions(torch=None, **found)
    pairs = judged.line if judged.verdict == "unpublished" else _PAIRS
    module, code = _MISSING_MODULE.search(report), _ERROR_CODE.search(report)
    if module is not None:
        reason = f"{reason}; {module[0]}"
        advice = f"CANN's compiler lacks a Python package here: {_PYTHON_NEEDS}"
    elif code is not None and code[1] in ("500000", "500001", "500002"):
        advice = (
            "CANN's compiler does not start: install CANN's kernels (ops) for this chip and what its Python side needs "
            f"({_PYTHON_NEEDS}), and check the versions ({pairs})"
        )
    elif code is not None and code[1].startswith(("500003", "500004", "507")):
        advice = (
            "the driver does not let this process use the card: look with npu-smi info at its health and at who else "
            f"holds it, another container perhaps, and at the driver's version ({pairs})"
        )
    else:
        advice = f"look at the card with npu-smi info and at the versions ({pairs})"
    return f"{card} does not start with {_list_versions(versions)} ({reason}): {advice}."


def explain_compiler() -> str | None:
    """Say in one line that the compiler of NPU kernels is not installed, and what to do; None when it is.

    Source: torch_npu's _inductor imports ``triton.backends.ascend``, and none of its wheels requires triton-ascend.
    """
    # Looked for, not imported: another triton, or one without its driver, may raise anything.
    triton = find_spec("triton")
    folders = [] if triton is None else list(triton.submodule_search_locations or ())
    if any((Path(folder) / "backends" / "ascend").is_dir() for folder in folders):
        return None
    found = "triton is not installed" if triton is None else "this triton is not Ascend's"
    return f"{found}; torch compiles for NPUs through Ascend's alone (pip install triton-ascend)"


def _list_versions(versions: Mapping[str, str]) -> str:
    known = [f"{'CANN' if name == 'cann' else name} {version}" for name, version in versions.items()]
    missing = [] if "cann" in versions else ["a CANN of unknown version"]
    return ", ".join([*known, *missing])


def _cann_roots() -> list[Path]:
    """List the folders that CANN may be installed in: the one its installer noted, or the default; a user's own."""
    info = Path(os.environ.get("ASCEND_INSTALL_INFO", "/etc/Ascend/ascend_cann_install.info"))
    try:
        noted = re.search(r"^Install_Path=(.+)$", info.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    except OSError:
        noted = None
    root = noted[1].strip() if noted else os.environ.get("ASCEND_ROOT", "/usr/local/Ascend")
    # A container's user need not have a home, which pathlib has no answer for.
    return [Path(root), Path(os.path.expanduser("~"), "Ascend")]
