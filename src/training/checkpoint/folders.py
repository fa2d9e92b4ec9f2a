"""A checkpoint that is a folder: its files, what says that they are whole, and its notes; tensors are ``sharded``'s.

A folder ``epoch_N`` holds a file of each process and ``.metadata``, as torch.distributed.checkpoint writes them, the
notes (``training_state``: everything that is not spread) and ``manifest.json`` with the digests of all of these.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_clip.checkpoint import read_checkpoint
from open_clip.errors import CheckpointError
from open_clip.files import write_whole
from training.checkpoint.digest import Digest, digest_file
from training.checkpoint.manifest import MANIFEST

#: Entry of a payload that says in which folder its tensors are.
FOLDER = "folder"
#: Without an ending: who looks for `*.pt` must not take the notes for a checkpoint.
NOTES = "training_state"
_SCHEMA = 1


def seal_folder(folder: Path, digests: Mapping[str, Digest]) -> None:
    """Write down what a folder's files must be; the last file that goes into it.

    Raises:
        OSError: When it cannot be written.
    """
    files = {name: dataclasses.asdict(digest) for name, digest in sorted(digests.items())}
    text = json.dumps({"schema": _SCHEMA, "files": files, "check": _check_of(files)}, indent=1)
    write_whole(folder / MANIFEST, text + "\n")


def read_folder(folder: Path, *, is_verified: bool = False) -> dict[str, Any]:
    """Compare every file of a folder with its manifest and give its notes.

    Args:
        folder: The checkpoint.
        is_verified: Whether somebody else compares the files.

    Returns:
        A payload without weights; its entry ``FOLDER`` says where those are.

    Raises:
        CheckpointError: When a file is missing, altered or cut short, or the folder is no checkpoint.
    """
    digests = _read_digests(folder)
    for name, known in () if is_verified else digests.items():
        path = folder / name
        try:
            size = path.stat().st_size
            is_same = size == known.size and digest_file(path) == known
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}). {_way_out()}") from error
        if not is_same:
            raise CheckpointError(
                f"{path}: its content is not what was written ({MANIFEST}: {known.size} bytes with their sha256; it "
                f"has {size} bytes). {_way_out()}"
            )
    unknown = sorted({entry.name for entry in os.scandir(folder)} - {*digests, MANIFEST})
    if unknown:
        raise CheckpointError(f"{folder}: holds {unknown[0]}, which {MANIFEST} does not name. {_way_out()}")
    return {**read_checkpoint(folder / NOTES, is_verified=True), FOLDER: str(folder)}


def names_of(folder: Path) -> set[str]:
    """Give the names of the files that a folder's manifest vouches for.

    Raises:
        CheckpointError: When there is no good manifest.
    """
    return set(_read_digests(folder))


def _read_digests(folder: Path) -> dict[str, Digest]:
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["check"] != _check_of(content["files"]):
            raise ValueError("its own check does not match")
        digests = {name: Digest(entry["size"], tuple(entry["sha256"])) for name, entry in content["files"].items()}
        if NOTES not in digests or any(Path(name).name != name for name in digests):
            raise ValueError("it does not name the files of a checkpoint")
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: holds no {MANIFEST}, so it is no whole checkpoint of this trainer. {_way_out()}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: is damaged ({error}). {_way_out()}") from error
    return digests


def _check_of(files: Any) -> str:
    return hashlib.sha256(json.dumps([_SCHEMA, files], sort_keys=True).encode()).hexdigest()


def _way_out() -> str:
    return "Take another checkpoint."
