"""The only reader of weight files. It never runs code from a file, checks what it reads, and loads no model.

Every failure is a ``CheckpointError`` that names the file, says what is wrong with it and what to do.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from open_clip.checkpoint.archive import find_data_root, read_script_archive
from open_clip.checkpoint.arrays import is_array_archive, read_array_archive
from open_clip.checkpoint.heads import PICKLE_MAGIC, ZIP_MAGIC, is_safetensors, name_unknown, read_head
from open_clip.checkpoint.keys import normalise_state_dict
from open_clip.checkpoint.metadata import CONFIG_ENTRY, read_metadata
from open_clip.checkpoint.torch_files import read_legacy, read_zip
from open_clip.checkpoint.trees import check_tree
from open_clip.errors import CheckpointError, first_line, printable
from open_clip.files import open_plain

# Scripts inside an archive are compressed, tensors are not: more growth than this is a bomb.
_MAX_EXPANSION = 4
_EXPANSION_SLACK_BYTES = 64 << 20


def read_checkpoint(path: str | Path, *, is_verified: bool = False) -> dict[str, Any]:
    """Read a whole checkpoint file: weights alone, or a training checkpoint with its optimizer and counters.

    Knows torch files (zip and the older plain pickle), OpenAI's TorchScript archives, safetensors and numpy archives,
    told apart by what is in them. Tensors come on the CPU. Files are read by a restricted unpickler only: plain
    containers and tensors pass, anything else is refused.

    Args:
        path: the file.
        is_verified: the caller compares the whole file with a hash of its own, so its checksums are not looked at.

    Raises:
        CheckpointError: the file is missing, empty, cut short, damaged, of another kind, holds something else than a
            dict, holds objects that would run code, or tensors larger than what the file has of them.
    """
    path = Path(path)
    where = printable(path)
    head = read_head(path)
    if head.startswith(ZIP_MAGIC):
        loaded = _read_zip(path, is_verified)
    elif is_safetensors(path, head):
        loaded = _read_safetensors(path)
    elif head.startswith(PICKLE_MAGIC):
        loaded = _read_legacy(path)
    else:
        raise CheckpointError(f"{where}: {name_unknown(path, head)}")
    if not isinstance(loaded, dict):
        raise CheckpointError(
            f"{where}: holds a {type(loaded).__name__}, not a dict of weights or a training checkpoint."
        )
    try:
        check_tree(loaded)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from None
    return loaded


def read_state_dict(path: str | Path, averaged: bool = False) -> dict[str, Tensor]:
    """Read the weights of any supported file, whatever they are wrapped in, as one flat dict of tensors.

    A training checkpoint is unwrapped, ``module.`` prefixes of DDP and OpenAI's three extra entries are taken off.
    With ``averaged`` a training checkpoint's moving average (``state_dict_ema``) is read in place of its last weights.

    Raises:
        CheckpointError: as ``read_checkpoint``, what the file holds is not a dict of tensors, or it has no average.
    """
    return _take_weights(read_checkpoint(path), path, averaged)


def read_described(path: str | Path) -> tuple[dict[str, Tensor], Any]:
    """Read the weights of any supported file, and the entry that says which model they are of; None in most files.

    Raises:
        CheckpointError: as ``read_state_dict``.
    """
    path = Path(path)
    if told := read_metadata(path).get(CONFIG_ENTRY):
        return read_state_dict(path), told
    checkpoint = read_checkpoint(path)
    told = checkpoint.get(CONFIG_ENTRY) if "state_dict" in checkpoint else None
    return _take_weights(checkpoint, path, averaged=False), told


def read_text_entries(path: str | Path) -> dict[str, str]:
    """Read what a file says beside its tensors, as ``write_safetensors`` takes it: which model they are of.

    Raises:
        CheckpointError: as ``read_checkpoint``.
    """
    path = Path(path)
    if told := read_metadata(path):
        return told
    entry = read_checkpoint(path).get(CONFIG_ENTRY)
    return {CONFIG_ENTRY: entry} if isinstance(entry, str) else {}


def _take_weights(checkpoint: dict[str, Any], path: str | Path, averaged: bool) -> dict[str, Tensor]:
    try:
        if not averaged:
            return normalise_state_dict(checkpoint)
        if "state_dict_ema" not in checkpoint:
            raise CheckpointError("holds no averaged weights (state_dict_ema); a run writes them with --ema-decay.")
        return normalise_state_dict({"state_dict": checkpoint["state_dict_ema"]})
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)}: {error}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, json.JSONDecodeError, ValueError, OSError, KeyError) as error:
        raise CheckpointError(
            f"{printable(path)}: is not a whole safetensors file ({first_line(error)}). Fetch or write it again."
        ) from error


def _read_zip(path: Path, is_verified: bool) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_expansion(path, archive)
            if not is_verified:
                _check_members(archive)
            if is_array_archive(archive.namelist()):
                return read_array_archive(archive)
            if archive_root := find_data_root(archive, member="constants.pkl"):
                return read_script_archive(archive, archive_root)
            root = find_data_root(archive)
            if root is None:
                raise CheckpointError("is a zip file with no weights of torch or numpy in it. Name another file.")
            return read_zip(archive, root)
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:
        # zipfile answers damage with half a dozen kinds of errors.
        raise CheckpointError(
            f"{printable(path)}: the file is cut short or damaged ({first_line(error)}). Fetch or write it again."
        ) from error


def _check_expansion(path: Path, archive: zipfile.ZipFile) -> None:
    expanded = sum(member.file_size for member in archive.infolist())
    if expanded > _MAX_EXPANSION * path.stat().st_size + _EXPANSION_SLACK_BYTES:
        raise CheckpointError(f"would expand to {expanded} bytes; no torch file does that, so it is refused.")


def _check_members(archive: zipfile.ZipFile) -> None:
    """Compare every member with its checksum: torch itself does not, and a flipped bit would become a weight."""
    damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(
            f"the content of {printable(damaged, 200)} does not match its checksum. Fetch or write the file again."
        )


def _read_legacy(path: Path) -> object:
    try:
        with open_plain(path) as file:
            return read_legacy(file)
    except (CheckpointError, OSError) as error:
        raise CheckpointError(f"{printable(path)}: {error}") from None
