"""Folders that ``import apex`` finds: the stand-in, and apex's real Python sources fitted to a machine without CUDA."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

STAND_IN = Path(__file__).with_name("apex_stand_in")
KINDS = ("stand-in", "real")
_PACKAGES = ("amp", "fp16_utils", "multi_tensor_apply")
# apex imports these for `isinstance` alone; their own modules need its compiled kernels.
_TYPES = {
    "__init__.py": "",
    "optimizers/__init__.py": "class FusedSGD: pass",
    "contrib/__init__.py": "",
    "contrib/optimizers/__init__.py": "class FP16_Optimizer: pass",
    "parallel/__init__.py": "class DistributedDataParallel: pass",
    "parallel/LARC.py": "class LARC: pass",
}
# What says that a tensor lies on the device.
_DEVICE_WORDS = ((r"torch\.cuda\.(Half|Float|Int)Tensor", r"torch.\1Tensor"), (r"\.is_cuda\b", ".is_cpu"))


def apex_folder(kind: str, folder: Path) -> Path:
    """Give the folder to put on the path for an ``apex`` that works on the CPU.

    Args:
        kind: ``stand-in``, or ``real`` for a copy of the package in the folder that ``OPENCLIP_APEX_PATH`` names (a
            checkout of NVIDIA/apex), in which only the words for the device differ.
        folder: Where the copy may be made.
    """
    if kind == "stand-in":
        return STAND_IN
    sources = os.environ.get("OPENCLIP_APEX_PATH")
    if not sources:
        pytest.skip("set OPENCLIP_APEX_PATH to a checkout of NVIDIA/apex")
    package = folder / "apex"
    for name in _PACKAGES:
        shutil.copytree(Path(sources) / "apex" / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for pattern, word in _DEVICE_WORDS:
            text = re.sub(pattern, word, text)
        path.write_text(text, encoding="utf-8")
    for name, text in _TYPES.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text + "\n", encoding="utf-8")
    return folder


def undo_patches() -> None:
    """Give torch back the functions that O1 patched."""
    amp = sys.modules.get("apex.amp")
    handle = getattr(amp._amp_state, "handle", None) if amp else None
    # Some are patched twice, and apex's own way back goes forward and ends at the first patch.
    while handle and handle._all_wrappers:
        owner, name, original = handle._all_wrappers.pop()
        if isinstance(owner, dict):
            owner[name] = original
        else:
            setattr(owner, name, original)


def forget_apex() -> None:
    """Undo what the imported package patched, and forget it."""
    undo_patches()
    for name in [name for name in sys.modules if name.split(".")[0] == "apex"]:
        del sys.modules[name]
