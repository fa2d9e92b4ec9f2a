"""The only reader of weight files. It never runs code from a file, checks what it reads, and loads no model.

Every failure is a ``CheckpointError`` that names the file, says what is wrong with it and what to do.
"""

import gzip
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from open_clip.checkpoint.archive import find_data_root, read_script_archive
from open_clip.checkpoint.arrays import is_array_archive, read_array_archive
from open_clip.checkpoint.heads import GZIP_MAGIC, PICKLE_MAGIC, ZIP_MAGIC, is_safetensors, name_unknown, read_head
from open_clip.checkpoint.keys import normalise_state_dict
from open_clip.checkpoint.metadata import CONFIG_ENTRY, open_safetensors, read_metadata
from open_clip.checkpoint.torch_files import read_pickled, read_zip
from open_clip.checkpoint.trees import check_tree, most_bytes_of
from open_clip.errors import CheckpointError, first_line, naming_file, printable
from open_clip.files import open_plain

_PIECE_BYTES = 1 << 20


def read_checkpoint(path: str | Path, *, is_verified: bool = False) -> dict[str, Any]:
    """Read a whole checkpoint file: weights alone, or a training checkpoint with its optimizer and counters.

    Knows torch files (zip and the older plain pickle), bare pickles of tensors, OpenAI's TorchScript archives, numpy
    archives, any of these packed with gzip, and safetensors, told apart by what is in them. Tensors come on the CPU.
    Files are read by a restricted unpickler only: plain containers and tensors pass, anything else is refused.

    Args:
        path: the file.
        is_verified: the caller compares the whole file with a hash of its own, so its checksums are not looked at.

    Raises:
        CheckpointError: the file is missing, empty, cut short, damaged, of another kind, holds something else than a
            dict, holds objects that would run code, or tensors larger than what the file has of them.
    """
    path = Path(path)
    head = read_head(path)
    with naming_file(path):
        if is_safetensors(path, head):
            loaded: object = _read_safetensors(path)
        elif head.startswith((ZIP_MAGIC, PICKLE_MAGIC, GZIP_MAGIC)):
            loaded = _read_torch_file(path, is_verified)
        else:
            raise CheckpointError(name_unknown(path, head))
        if not isinstance(loaded, dict):
            raise CheckpointError(f"holds a {type(loaded).__name__}, not a dict of weights or a training checkpoint.")
        check_tree(loaded)
    return loaded


def read_state_dict(path: str | Path, averaged: bool = False) -> dict[str, Tensor]:
    """Read the weights of any supported file, whatever they are wrapped in, as one flat dict of tensors.

    A training checkpoint is unwrapped, ``module.`` prefixes of DDP and OpenAI's three extra entries are taken off.
    With ``averaged`` a training checkpoint's moving average (``state_dict_ema``) is read in place of its last weights.

    Raises:
        CheckpointError: as ``read_checkpoint``, what the file holds is not a dict of tensors, or it has no average.
    """
    return _take_weights(read_checkpoint(path), path, averaged)


def read_described(path: str | Path) -> tuple[dict[str, Tensor], object]:
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


def list_entries(path: str | Path) -> list[str]:
    """List the names of the weights of a file; of safetensors, no weight is read for it.

    Raises:
        CheckpointError: as ``read_state_dict``.
    """
    path = Path(path)
    if not is_safetensors(path, read_head(path)):
        return list(read_state_dict(path))
    with open_safetensors(path) as file:
        return list(file.keys())


def read_entries(path: str | Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, Tensor]]:
    """Give some weights of a file one after the other, by name; nothing is kept of what was given.

    Of safetensors only these are read. Other files are read whole and let go of as they are given.

    Raises:
        CheckpointError: as ``read_state_dict``.
    """
    path = Path(path)
    if is_safetensors(path, read_head(path)):
        with open_safetensors(path) as file:
            for name in file.keys():  # noqa: SIM118 (this file is no mapping)
                if is_wanted(name):
                    yield name, file.get_tensor(name)
        return
    weights = read_state_dict(path)
    for name in list(weights):
        tensor = weights.pop(name)
        if is_wanted(name):
            yield name, tensor


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
    with naming_file(path):
        if not averaged:
            return normalise_state_dict(checkpoint)
        if "state_dict_ema" not in checkpoint:
            raise CheckpointError("holds no averaged weights (state_dict_ema); a run writes them with --ema-decay.")
        return normalise_state_dict({"state_dict": checkpoint["state_dict_ema"]})


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, json.JSONDecodeError, ValueError, OSError, KeyError) as error:
        raise CheckpointError(
            f"is not a whole safetensors file ({first_line(error)}). Fetch or write it again."
        ) from error


def _read_torch_file(path: Path, is_verified: bool) -> object:
    try:
        with open_plain(path) as file:
            if not file.read(len(GZIP_MAGIC)).startswith(GZIP_MAGIC):
                return _read_opened(file, is_verified)
            with tempfile.TemporaryFile() as unpacked:
                _unpack(file, unpacked)
                return _read_opened(unpacked, is_verified)
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:
        # zipfile and gzip answer damage with half a dozen kinds of errors.
        raise CheckpointError(
            f"the file is cut short or damaged ({first_line(error)}). Fetch or write it again."
        ) from error


def _read_opened(file: BinaryIO, is_verified: bool) -> object:
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    head = file.read(len(ZIP_MAGIC))
    if head.startswith(PICKLE_MAGIC):
        file.seek(0)
        return read_pickled(file, size)
    if head != ZIP_MAGIC:
        raise CheckpointError("is a gzip file with no weights of torch or numpy in it. Name another file.")
    with zipfile.ZipFile(file) as archive:
        if (expanded := sum(member.file_size for member in archive.infolist())) > most_bytes_of(size):
            raise CheckpointError(f"would expand to {expanded} bytes; no torch file does that, so it is refused.")
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


def _unpack(file: BinaryIO, unpacked: BinaryIO) -> None:
    """Unpack a gzip file into another, as far as weights may grow by it: what it claims of its size is any number."""
    left = most_bytes_of(os.fstat(file.fileno()).st_size)
    file.seek(0)
    with gzip.GzipFile(fileobj=file) as packed:
        while piece := packed.read(_PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                raise CheckpointError("would unpack to far more than weights do, so it is refused.")
            try:
                unpacked.write(piece)
            except OSError as error:
                raise CheckpointError(
                    f"cannot be unpacked ({error}). Let TMPDIR name a folder with more room."
                ) from error


def _check_members(archive: zipfile.ZipFile) -> None:
    """Compare every member with its checksum: torch itself does not, and a flipped bit would become a weight."""
    damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(
            f"the content of {printable(damaged, 200)} does not match its checksum. Fetch or write the file again."
        )
