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
from open_clip.errors import CheckpointError, printable
from open_clip.files import open_plain, write_whole
from training.checkpoint.digest import Digest, digest_file
from training.checkpoint.manifest import DIGEST, MANIFEST, read_files, read_text
from training.checkpoint.schema import FOLDER as FOLDER
from training.checkpoint.schema import Payload, by_name, check_payload, each, entries, text

#: Without an ending: who looks for `*.pt` must not take the notes for a checkpoint.
NOTES = "training_state"
_SCHEMA = 1
# Parameters are told by their names; `kinds` says which states of each are tensors in the other files.
_NOTES = entries(
    {
        "optimizer": entries(
            {
                "param_groups": each(entries({"params": each(text)}, needed=("params",))),
                "state": by_name(by_name(lambda value, where: None)),
                "kinds": by_name(each(text)),
            },
            needed=("param_groups", "state", "kinds"),
        ),
        "order_of_weights": each(text),
    },
    needed=("epoch", "name", "optimizer", "order_of_weights"),
)


def seal_folder(folder: Path, digests: Mapping[str, Digest]) -> None:
    """Write down what a folder's files must be; the last file that goes into it.

    Raises:
        OSError: When it cannot be written.
    """
    files = {name: dataclasses.asdict(digest) for name, digest in sorted(digests.items())}
    text = json.dumps({"schema": _SCHEMA, "files": files, "check": _check_of(files)}, indent=1)
    write_whole(folder / MANIFEST, text + "\n")


def read_folder(folder: Path, *, is_verified: bool = False) -> Payload:
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
            with open_plain(path) as file:
                size = os.fstat(file.fileno()).st_size
            is_same = size == known.size and digest_file(path) == known
        except OSError as error:
            raise CheckpointError(
                f"{printable(path)}: cannot be read ({error.strerror or error}). {_way_out()}"
            ) from error
        if not is_same:
            raise CheckpointError(
                f"{printable(path)}: its content is not what was written ({MANIFEST}: {known.size} bytes with their "
                f"sha256; it has {size} bytes). {_way_out()}"
            )
    try:
        unknown = sorted({*os.listdir(folder)} - {*digests, MANIFEST})
    except OSError as error:
        raise CheckpointError(f"{printable(folder)}: cannot be listed ({error.strerror}). {_way_out()}") from error
    if unknown:
        raise CheckpointError(
            f"{printable(folder)}: holds {printable(unknown[0], 200)}, which {MANIFEST} does not name. {_way_out()}"
        )
    notes = check_payload({**read_checkpoint(folder / NOTES, is_verified=True), FOLDER: str(folder)}, folder)
    try:
        _NOTES(notes, "")
    except CheckpointError as error:
        raise CheckpointError(f"{printable(folder / NOTES)}: {error} {_way_out()}") from None
    return notes


def sizes_of(folder: Path) -> dict[str, int]:
    """Give names and bytes of the files that a folder's manifest vouches for.

    Raises:
        CheckpointError: When there is no good manifest.
    """
    return {name: digest.size for name, digest in _read_digests(folder).items()}


def _read_digests(folder: Path) -> dict[str, Digest]:
    path = folder / MANIFEST
    try:
        files = read_files(read_text(path), check_of=_check_of)
        by_name(DIGEST)(files, "files")
        digests = {name: Digest(entry["size"], tuple(entry["sha256"])) for name, entry in files.items()}
        if NOTES not in digests or any(Path(name).name != name or "\0" in name for name in digests):
            raise ValueError("it does not name the files of a checkpoint")
    except FileNotFoundError:
        raise CheckpointError(
            f"{printable(folder)}: holds no {MANIFEST}, so it is no whole checkpoint of this trainer. {_way_out()}"
        ) from None
    except (OSError, ValueError, CheckpointError) as error:
        raise CheckpointError(f"{printable(path)}: is damaged ({printable(error, 300)}). {_way_out()}") from error
    return digests


def _check_of(files: Any) -> str:
    return hashlib.sha256(json.dumps([_SCHEMA, files], sort_keys=True).encode()).hexdigest()


def _way_out() -> str:
    return "Take another checkpoint."
