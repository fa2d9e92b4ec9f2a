"""Import torch on a machine whose accelerator plug-in may be broken; imports no torch by itself.

Torch loads every installed plug-in of the entry point group ``torch.backends`` while it is imported, and one that does
not load takes ``import torch`` down with it. That is what an installed Ascend wheel does when CANN is not sourced.
Call :func:`import_torch` before the first ``import torch`` of a program and such a machine can still use its CPU.
"""

import importlib
import logging
import os
from importlib.metadata import EntryPoint, entry_points

from open_clip.errors import first_line
from training.device.npu_faults import advise_on_loading

_SWITCH = "TORCH_DEVICE_BACKEND_AUTOLOAD"
_GROUP = "torch.backends"
_faults: dict[str, str] = {}
_logger = logging.getLogger(__name__)


def installed_backends() -> tuple[str, ...]:
    """Name the accelerator plug-ins that are installed, loadable or not."""
    return tuple(sorted({entry.name for entry in entry_points(group=_GROUP)}))


def import_torch() -> dict[str, str]:
    """Import torch with the plug-ins that load, and remember why the others do not.

    A second call only returns the answer of the first. When a plug-in is broken, loading is switched off in the
    environment so that child processes (data workers, ``torchrun`` ranks of ours) can import torch too.

    Returns:
        The reason by the name of each plug-in that could not be loaded; empty on a sound machine.

    Raises:
        ImportError: Torch itself is missing or broken.
    """
    asked = os.environ.get(_SWITCH, "1")
    if asked != "1" or _is_imported():
        importlib.import_module("torch")
        return dict(_faults)
    os.environ[_SWITCH] = "0"
    try:
        importlib.import_module("torch")
        for entry in entry_points(group=_GROUP):
            _load(entry)
    finally:
        os.environ[_SWITCH] = "0" if _faults else asked
    # Only a run that wanted the device is concerned: selection says it again, louder.
    for name, reason in _faults.items():
        _logger.info("%s", describe_fault(name, reason))
    return dict(_faults)


def backend_fault(name: str) -> str | None:
    """Say why the named plug-in did not load, or None when it did or was never tried."""
    return _faults.get(name)


def describe_fault(name: str, reason: str) -> str:
    """Explain a plug-in that does not load and what to do about it."""
    advice = "repair or uninstall it"
    if "accelerators" in reason:
        advice = "install the CPU build of torch beside it (the plug-in refuses a torch built for another accelerator)"
    elif name == "torch_npu":
        advice = advise_on_loading(reason)
    return f"{name} is installed but does not load ({reason}): {advice}"


def _load(entry: EntryPoint) -> None:
    """Load one plug-in the way torch does, keeping its failure."""
    # The failure may be anything: a missing library, a driver that is too old, a plug-in's own check.
    try:
        entry.load()()
    except Exception as error:
        _faults[entry.name] = first_line(error)


def _is_imported() -> bool:
    import sys

    return "torch" in sys.modules
