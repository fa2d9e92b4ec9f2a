"""The machine and what is installed on it, as labelled lines; imports no torch."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import open_clip
from open_clip.version import __version__
from training.device.inventory import host_packages, installed_version, software_versions

REQUIRED = ("torch", "numpy", "pillow", "regex", "ftfy", "safetensors", "huggingface_hub", "filelock")
OPTIONAL = {
    "tensorboard": "--report-to tensorboard",
    "webdataset": "writing and streaming shards; extra `shards`",
    "timm": "timm image towers, --aug-cfg use_timm=True; extra `timm`",
    "transformers": "Hugging Face text towers and tokenizers; extra `hf`",
    "simplejpeg": "JPEG images decoded faster, to the same pixels; extra `fast`",
    "numba": "images resized faster, to the same pixels; extra `fast`",
    "nltk": "captions shortened by syntax",
}
_SHARED_MEMORY = "/dev/shm"


class Fact(NamedTuple):
    """One thing that is known: a label of one or two words, and what there is to say."""

    label: str
    text: str


def describe_machine() -> Iterator[Fact]:
    """Give the host and its Python."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Fact("machine", f"{_system_name()} {platform.machine()}, {cores} cores, {memory / 2**30:.1f} GiB")
    yield Fact("python", f"{platform.python_version()} ({sys.executable})")
    if os.path.isdir(_SHARED_MEMORY):
        free = shutil.disk_usage(_SHARED_MEMORY).free
        is_little = free <= 2**30
        yield Fact("shared mem", f"{free / 2**30:.1f} GiB free{': too little for many --workers' if is_little else ''}")


def describe_packages() -> Iterator[Fact]:
    """Give which library is in use, and the versions of what it needs and of what is optional, importing none."""
    yield Fact("library", f"open_clip {__version__} ({Path(open_clip.__file__).parent})")
    for name in REQUIRED:
        yield Fact("package", f"{name} {installed_version(name) or 'is missing: pip install ' + name}")
    for name, use in OPTIONAL.items():
        yield Fact("optional", f"{name} {installed_version(name) or 'not installed'} ({use})")
    for plugin, needed in host_packages().items():
        missing = [name for name in needed if installed_version(name) is None]
        found = ", ".join(f"{name} {installed_version(name)}" for name in needed if name not in missing)
        advice = f"missing: pip install {' '.join(missing)}" if missing else ""
        needs = "; ".join(filter(None, [found, advice]))
        yield Fact("plug-in", f"{plugin} {installed_version(plugin)}; what it needs beside it: {needs}")
    for name, number in software_versions().items():
        yield Fact("software", f"{name} {number}")


def describe_fast_parts() -> Iterator[Fact]:
    """Give which fast ways of preparing images work here: installed, and giving the pixels of this Pillow."""
    from open_clip.transform.resample import load_resampler
    from training.data.fast_jpeg import load_jpeg_decoder

    parts = {"JPEG decoding": load_jpeg_decoder(), "resize": load_resampler()}
    for name, part in parts.items():
        yield Fact("fast", f"{name}: {'in use' if part else 'not in use, Pillow does it (extra `fast`)'}")


def _system_name() -> str:
    """Return the distribution's name where the system tells it, else the kernel's."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return f"{platform.system()} {platform.release()} ({release.get('PRETTY_NAME', release['NAME'])})"
