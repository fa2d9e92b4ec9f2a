"""A few characters that tell data apart, whatever folder it lies in and whenever it was written."""

import hashlib
from collections.abc import Iterable
from os.path import basename

import numpy as np
import numpy.typing as npt


def short_digest(parts: Iterable["bytes | npt.NDArray[np.generic]"]) -> str:
    """Digest parts one after the other, as 12 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=6)
    for part in parts:
        digest.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part)
    return digest.hexdigest()


def digest_names(names: Iterable[str]) -> str:
    """Digest file names without their folders."""
    return short_digest(basename(name).encode("utf-8", "surrogateescape") + b"\0" for name in names)


def name_changes(before: str, now: str) -> list[str]:
    """Name what two descriptions such as ``rows 40, captions 5d1e`` say otherwise, of what both tell."""
    old, new = (dict(part.partition(" ")[::2] for part in text.split(", ")) for text in (before, now))
    return [f"{name} ({old[name]} before, now {value})" for name, value in new.items() if old.get(name, value) != value]
