"""Bring what a bare machine lacks as wheels: ``collect`` them where there is a network, ``install`` them where none is.

``install`` needs nothing but python, pip and torch. It touches no environment: the peer goes into one folder, what else
is missing into another, both for ``PYTHONPATH``.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

_CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints"
# The peer and what it must have in a version of its own; always installed.
PEER = ("open_clip_torch", "webdataset", "braceexpand")
# Modules that either side imports, by the package that brings them; installed where the module is missing.
NEEDED = {
    "numpy": "numpy",
    "pillow": "PIL",
    "regex": "regex",
    "ftfy": "ftfy",
    "wcwidth": "wcwidth",
    "safetensors": "safetensors",
    "huggingface_hub": "huggingface_hub",
    "PyYAML": "yaml",
    "tqdm": "tqdm",
    "filelock": "filelock",
    "fsspec": "fsspec",
    "hf-xet": "hf_xet",
    "httpx2": "httpx2",
    "httpcore2": "httpcore2",
    "anyio": "anyio",
    "h11": "h11",
    "idna": "idna",
    "truststore": "truststore",
    "click": "click",
    "packaging": "packaging",
    "typing_extensions": "typing_extensions",
    "torchvision": "torchvision",
    "timm": "timm",
    "pandas": "pandas",
    "python-dateutil": "dateutil",
    "pytz": "pytz",
    "six": "six",
    "tzdata": "tzdata",
    "simplejpeg": "simplejpeg",
    "numba": "numba",
    "llvmlite": "llvmlite",
}
# Without these a side is slower, not broken.
FASTER = ("simplejpeg", "numba", "llvmlite")
# pip matches these one by one; a newer C library runs what was built for an older one.
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux_2_5", "manylinux1")


def pinned_versions() -> dict[str, str]:
    """Read the versions that the constraints pin; the peer's own win."""
    found: dict[str, str] = {}
    for name in ("ci.txt", "peer.txt"):
        lines = (_CONSTRAINTS / name).read_text(encoding="utf-8").splitlines()
        pairs = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
        found |= {_normal(package): version for package, _, version in pairs}
    return found


def torchvision_for(torch_version: str) -> str:
    """Return the torchvision that belongs to a torch: 0.29 to 2.14, one less for each release before."""
    match = re.match(r"2\.(\d+)", torch_version)
    if match is None:
        raise ValueError(f"torch {torch_version}: give a version such as 2.11")
    return f"0.{int(match[1]) + 15}.0"


def collect(folder: Path, torch_version: str, python_version: str, arch: str, only: Sequence[str]) -> None:
    """Download wheels for a machine with another python and another processor, one by one, without what they need."""
    versions = pinned_versions() | {"torchvision": torchvision_for(torch_version)}
    names = only or [*PEER, *NEEDED]
    tags = [word for platform in _PLATFORMS for word in ("--platform", f"{platform}_{arch}")]
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    words += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python_version, *tags]
    for name in names:
        version = versions.get(_normal(name))
        wanted = name if version is None else f"{name}=={version}"
        subprocess.run([*words, "--dest", str(folder), wanted], check=True)
    sizes = [wheel.stat().st_size for wheel in folder.glob("*.whl")]
    print(f"{len(sizes)} wheels, {sum(sizes) / 1e6:.0f} MB, in {folder}")


def install(folder: Path, into: Path) -> None:
    """Install the peer into ``into``/peer and what is missing into ``into``/site, from the wheels alone.

    Raises:
        SystemExit: Torch is missing, or a package is missing and has no wheel.
    """
    if find_spec("torch") is None:
        sys.exit(f"{sys.executable} has no torch, which a folder of wheels does not bring: name another with PYTHON=")
    held = {_normal(wheel.name.split("-")[0]) for wheel in folder.glob("*.whl")}
    missing = [name for name, module in NEEDED.items() if find_spec(module) is None]
    lacking = [name for name in (*PEER, *missing) if _normal(name) not in held]
    broken = [name for name in lacking if name not in FASTER]
    if broken:
        sys.exit(f"{folder} has no wheel of {', '.join(broken)}: collect them with `make bench-wheels`")
    if lacking:
        print(f"slower without {', '.join(lacking)}, of which there is no wheel")
    _pip(folder, into / "peer", PEER)
    _pip(folder, into / "site", [name for name in missing if name not in lacking])


def _pip(folder: Path, target: Path, names: Sequence[str]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    if not names:
        return
    words = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    ]
    words += ["--upgrade", "--no-cache-dir", "--find-links", str(folder), "--target", str(target)]
    subprocess.run([*words, *names], check=True)
    print(f"{', '.join(names)}: into {target}")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(words: Sequence[str] | None = None) -> None:
    """Collect or install."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wheels", description=__doc__.partition("\n")[0])
    parser.add_argument("do", choices=("collect", "install"))
    parser.add_argument("folder", type=Path, help="where the wheels are")
    parser.add_argument("--into", type=Path, default=Path(".cache/bench"), help="where to install")
    parser.add_argument("--torch", default="2.11", help="the machine's torch, which decides the torchvision")
    parser.add_argument("--python-version", default="3.12", help="the machine's python")
    parser.add_argument("--arch", default="x86_64", help="the machine's processor: x86_64 or aarch64")
    parser.add_argument("--only", nargs="*", default=[], help="packages to collect, where it is known what is missing")
    options = parser.parse_args(words)
    if options.do == "collect":
        collect(options.folder, options.torch, options.python_version, options.arch, options.only)
    else:
        install(options.folder, options.into)


if __name__ == "__main__":
    main()
