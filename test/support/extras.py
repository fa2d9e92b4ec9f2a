"""Marks for tests that need the optional packages; `make towers` installs them apart and runs these tests."""

from importlib.util import find_spec
from pathlib import Path

import pytest


def _needs(*packages: str) -> list[pytest.MarkDecorator]:
    missing = [package for package in packages if find_spec(package) is None]
    reason = f"{', '.join(missing)} not installed: `make towers` runs this"
    return [pytest.mark.towers, pytest.mark.skipif(bool(missing), reason=reason)]


needs_timm = _needs("timm", "torchvision")
needs_hf = _needs("transformers", "sentencepiece")
needs_sentencepiece = _needs("sentencepiece")
needs_towers = _needs("timm", "torchvision", "transformers", "sentencepiece")


def extras_folders() -> list[Path]:
    """The folders that transformers and what it needs are installed into, to be handed to the peer's process."""
    folders = []
    for package in ("transformers", "tokenizers", "sentencepiece"):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            folders.append(Path(spec.origin).parent.parent)
    return list(dict.fromkeys(folders))
