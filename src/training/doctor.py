"""Say what this machine can train on and whether a run would start: ``python -m training.doctor [--device NAME]``.

Works where ``import torch`` fails, and says why. Starts no run and reads no data. Exit status 0 when a run would start,
6 when not.
"""

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import open_clip
from open_clip.errors import DeviceError, OpenClipError, first_line
from open_clip.version import __version__
from training.device.startup import import_torch

REQUIRED = ("torch", "numpy", "pillow", "regex", "ftfy", "safetensors", "huggingface_hub", "filelock")
OPTIONAL = {
    "tensorboard": "--report-to tensorboard",
    "webdataset": "writing and streaming shards; extra `shards`",
    "timm": "timm image towers, --aug-cfg use_timm=True; extra `timm`",
    "transformers": "Hugging Face text towers and tokenizers; extra `hf`",
    "simplejpeg": "JPEG pictures decoded faster, to the same pixels; extra `fast`",
    "numba": "pictures resized faster, to the same pixels; extra `fast`",
    "nltk": "captions shortened by syntax",
}
if TYPE_CHECKING:
    from training.device import Device

_SHARED_MEMORY = "/dev/shm"


def main(args: Sequence[str] | None = None) -> int:
    """Print the report and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.doctor", description="Say whether a run would start here."
    )
    parser.add_argument("--device", default="auto", help="the device to try: auto, cpu, cuda, npu, or with an index")
    wanted = parser.parse_args(args).device
    _print_machine()
    _print_packages()
    try:
        import_torch()
    # A broken torch fails in many ways: a missing library, a wrong architecture, a plug-in's own error.
    except Exception as error:
        return _give_up(f"torch does not import: {first_line(error)}. Reinstall torch for this Python and processor.")
    _print_fast_parts()
    return _examine_devices(wanted)


def _print_machine() -> None:
    """Print the host and its Python."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"machine      {platform.system()} {platform.machine()}, {cores} cores, {memory / 2**30:.1f} GiB")
    print(f"python       {platform.python_version()} ({sys.executable})")
    if os.path.isdir(_SHARED_MEMORY):
        free = shutil.disk_usage(_SHARED_MEMORY).free
        print(f"shared mem   {free / 2**30:.1f} GiB free{'' if free > 2**30 else ': too little for many --workers'}")


def _print_packages() -> None:
    """Print which library is in use, and the versions of what it needs and of what is optional, importing none."""
    print(f"library      open_clip {__version__} ({Path(open_clip.__file__).parent})")
    for name in REQUIRED:
        print(f"package      {name} {_version(name) or 'is missing: pip install ' + name}")
    for name, use in OPTIONAL.items():
        print(f"optional     {name} {_version(name) or 'not installed'} ({use})")


def _print_fast_parts() -> None:
    """Print which fast ways of preparing pictures work here: installed, and giving the pixels of this Pillow."""
    from open_clip.transform.resample import load_resampler
    from training.data.fast_jpeg import load_jpeg_decoder

    parts = {"JPEG decoding": load_jpeg_decoder(), "resize": load_resampler()}
    for name, part in parts.items():
        print(f"fast         {name}: {'in use' if part else 'not in use, Pillow does it (extra `fast`)'}")


def _version(name: str) -> str | None:
    """Return an installed package's version."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _examine_devices(wanted: str) -> int:
    """Print every device, try the one that would be chosen, and return the exit status."""
    from training.device import device_report, select_device

    for device, reason in device_report():
        print(f"device       {device.kind}: {f'{device.count()} usable' if reason is None else f'no: {reason}'}")
    try:
        chosen = select_device(wanted)
        chosen.activate()
        info = chosen.info()
    except OpenClipError as error:
        return _give_up(str(error), error.exit_status)
    versions = "".join(f", {name} {number}" for name, number in info.versions.items())
    memory = "" if info.memory_bytes is None else f", {info.memory_bytes / 2**30:.1f} GiB"
    print(f"chosen       --device {wanted} takes {chosen.kind}: {info.name}{memory}{versions}")
    _print_precisions(chosen)
    return _try_step(chosen)


def _print_precisions(device: "Device") -> None:
    """Print the precisions that work on a device, then those that do not, with the reason."""
    from training.device import PRECISIONS, make_mixed_precision, resolve_precision

    working: list[str] = []
    failing: dict[str, list[str]] = {}
    for name in PRECISIONS:
        try:
            precision = resolve_precision(name, device)
            make_mixed_precision(precision, device, device.torch_device())
            working.append(name if precision.note is None else f"{name} ({precision.note})")
        except OpenClipError as error:
            failing.setdefault(first_line(error), []).append(name)
    print(f"precision    {', '.join(working)}")
    for reason, names in failing.items():
        print(f"precision    not {', '.join(names)}: {reason}")


def _try_step(device: "Device") -> int:
    """Take one optimizer step on the device and return the exit status."""
    import torch

    target = device.torch_device()
    # A driver that answers and a kernel that does not run is a common state of a half-installed machine.
    try:
        layer = torch.nn.Linear(16, 16).to(target)
        options = device.optimizer_options(layer.parameters())
        optimizer = torch.optim.AdamW(layer.parameters(), fused=options.get("fused"), foreach=options.get("foreach"))
        layer(torch.ones(2, 16, device=target)).square().mean().backward()
        optimizer.step()
        device.synchronize()
    except Exception as error:
        return _give_up(f"one training step on {target} failed: {first_line(error)}")
    print(f"ready        one training step on {target} worked (AdamW {options or 'plain'}); a run would start")
    return 0


def _give_up(reason: str, status: int = DeviceError.exit_status) -> int:
    """Print why no run would start and return the status for it."""
    print(f"not ready    {reason}")
    return status


if __name__ == "__main__":
    sys.exit(main())
