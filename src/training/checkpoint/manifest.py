"""`manifest.json`: what the checkpoints of a folder must be, byte for byte.

An entry is written after the file is whole on the disk under its temporary name and before it gets its own; while a
file is being replaced its name has two. So a kill at any moment leaves every file equal to an entry of its name. The
manifest checks itself, so damage to it is not taken for damage to a checkpoint.
"""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from open_clip.errors import CheckpointError, printable
from open_clip.files import read_plain, write_whole
from training.checkpoint.digest import Digest
from training.checkpoint.schema import Payload, by_name, count, each, entries, finite, optional, text

MANIFEST = "manifest.json"
_SCHEMA = 1
_MOST_BYTES = 64 << 20
_DIGEST = {"size": count, "sha256": each(text)}
#: A file's size and the SHA-256 of each piece of it.
DIGEST = entries(_DIGEST, needed=tuple(_DIGEST))
_COUNTS = dict.fromkeys(("epoch", "step", "samples_seen"), optional(count))
_FILES = by_name(each(entries({**_DIGEST, **_COUNTS, "time": finite, "torch": text}, needed=tuple(_DIGEST))))
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ManifestEntry:
    """A file as it was written: what it must be, and what of the run it holds.

    Attributes:
        size: Bytes.
        sha256: Of each piece of the file, in hex.
        epoch: Epochs completed.
        step: Optimizer steps since the start of the run.
        samples_seen: Rows trained on.
        time: When it was written, in seconds since 1970.
        torch: Version of torch that wrote it.
    """

    size: int
    sha256: tuple[str, ...]
    epoch: int | None = None
    step: int | None = None
    samples_seen: int | None = None
    time: float = 0.0
    torch: str = ""

    @property
    def digest(self) -> Digest:
        """What the file must be."""
        return Digest(self.size, self.sha256)

    @classmethod
    def of(cls, digest: Digest, payload: Payload) -> "ManifestEntry":
        """Describe a payload that was just written."""
        return cls(
            digest.size,
            digest.sha256,
            epoch=payload.get("epoch"),
            step=payload.get("global_step"),
            samples_seen=payload.get("samples_seen"),
            time=round(time.time(), 3),
            torch=torch.__version__,
        )


class Manifest:
    """Records of a folder's files, by name; several of one name while a file is being replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, tuple[ManifestEntry, ...]] = parse_manifest(_read(folder / MANIFEST), folder / MANIFEST)

    def of(self, name: str) -> tuple[ManifestEntry, ...]:
        """Give what a file may be; nothing for one that was written by another trainer."""
        return self.records.get(name, ())

    def announce(self, name: str, record: ManifestEntry) -> None:
        """Write down what a file is about to become.

        Raises:
            OSError: When the manifest cannot be written; it stays as it was.
        """
        records = {**self.records, name: (*self.of(name)[-1:], record)}
        self._write(records)

    def settle(self, name: str, record: ManifestEntry) -> None:
        """Forget what the file was before, and the files that are gone.

        Raises:
            OSError: As :meth:`announce`.
        """
        kept = {known: records for known, records in self.records.items() if (self.folder / known).exists()}
        kept[name] = (record,)
        if kept != self.records:
            self._write(kept)

    def name_of(self, digest: Digest) -> str | None:
        """Name the file that was written with this content."""
        for name, records in self.records.items():
            if any(record.digest == digest for record in records):
                return name
        return None

    def _write(self, records: dict[str, tuple[ManifestEntry, ...]]) -> None:
        files = {name: [dataclasses.asdict(record) for record in kept] for name, kept in sorted(records.items())}
        content = {"schema": _SCHEMA, "files": files, "check": _check_of(files)}
        write_whole(self.folder / MANIFEST, json.dumps(content, indent=1) + "\n")
        self.records = records


def parse_manifest(content: str | None, where: object) -> dict[str, tuple[ManifestEntry, ...]]:
    """Read the text of a manifest.

    Args:
        content: What the file holds; None where there is none.
        where: What to call it when it is damaged, which is logged: then no file has a record.
    """
    if content is None:
        return {}
    try:
        files = read_files(content, check_of=_check_of)
        _FILES(files, "files")
        return {
            name: tuple(ManifestEntry(**{**_known(values), "sha256": tuple(values["sha256"])}) for values in records)
            for name, records in files.items()
        }
    except (ValueError, CheckpointError) as error:
        reason = printable(" ".join(str(error).split()), 300)
        _LOG.warning(
            "%s is not used: %s. The checkpoints are held to their own checksums alone.", printable(where), reason
        )
        return {}


def read_files(content: str, check_of: Callable[[Any], str]) -> Any:
    """Give what the text of a manifest says of files, of whatever kind that is, if its own check agrees.

    Raises:
        ValueError: When it is no manifest, or does not agree with its check.
    """
    try:
        manifest = json.loads(content)
        if not isinstance(manifest, dict) or "files" not in manifest or "check" not in manifest:
            raise ValueError("it is no manifest")
        if manifest["check"] != check_of(manifest["files"]):
            raise ValueError("its own check does not match")
    except RecursionError:
        raise ValueError("it is nested without end") from None
    return manifest["files"]


def read_text(path: Path) -> str:
    """Read a manifest's text.

    Raises:
        OSError: When it is not there, cannot be read, is no plain file, or is far larger than any manifest.
    """
    return read_plain(path, _MOST_BYTES).decode("utf-8", errors="replace")


def _known(values: Payload) -> Payload:
    return {item.name: values[item.name] for item in dataclasses.fields(ManifestEntry) if item.name in values}


def _read(path: Path) -> str | None:
    try:
        return read_text(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        _LOG.warning("%s is not used: %s.", printable(path), error.strerror or error)
        return None


def _check_of(files: Any) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
