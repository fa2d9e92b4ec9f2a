"""Read the index of a folder of shards without running code: torch's own reader unpickles whatever it finds."""

import io
import math
import pickle
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)

from open_clip.errors import CheckpointError, printable
from training.checkpoint.folders import sizes_of

# What torch pickles into an index of tensors. Source: torch 2.6 to 2.14, distributed/checkpoint/metadata.py
_ALLOWED = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size", *(name for name, value in vars(torch).items() if isinstance(value, torch.dtype))},
}


class ShardReader(FileSystemReader):
    """Reader of a folder of shards that builds nothing but the index's own plain classes."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Read the index.

        Raises:
            CheckpointError: When it holds anything else than an index of tensors in files of this folder.
        """
        metadata = read_metadata(Path(self.path))
        if metadata.storage_meta is not None:
            metadata.storage_meta.load_id = self.load_id
        return metadata


def read_metadata(folder: Path) -> Metadata:
    """Read the index of a folder of shards.

    Raises:
        CheckpointError: As :meth:`ShardReader.read_metadata`.
    """
    path = folder / ".metadata"
    try:
        metadata = _Unpickler(io.BytesIO(path.read_bytes())).load()
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)}: {error}") from None
    except Exception as error:
        # A damaged pickle raises almost anything.
        raise CheckpointError(
            f"{printable(path)}: is damaged ({type(error).__name__}). Take another checkpoint."
        ) from None
    if not isinstance(metadata, Metadata) or not isinstance(metadata.storage_data, dict):
        raise CheckpointError(f"{printable(path)}: is no index of shards. Take another checkpoint.")
    try:
        _check_places(metadata, sizes_of(folder))
        _check_tensors(metadata, sum(sizes_of(folder).values()))
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)}: {error} Take another checkpoint.") from None
    return metadata


def _check_places(metadata: Metadata, sizes: Mapping[str, int]) -> None:
    """Hold every part of a tensor to a file of the folder and to its length."""
    for place in metadata.storage_data.values():
        name, offset, length = _attributes(place, _StorageInfo, "relative_path", "offset", "length")
        if not isinstance(name, str) or name not in sizes:
            raise CheckpointError("points at files outside its folder.")
        if not _are_counts((offset, length)) or offset + length > sizes[name]:
            raise CheckpointError(f"points past the end of {printable(name, 120)}.")


def _check_tensors(metadata: Metadata, held: int) -> None:
    """Hold every tensor to plain sizes, to parts that make it up, and all of them to the bytes that are there."""
    listed = metadata.state_dict_metadata
    claimed = 0
    for name, entry in listed.items() if isinstance(listed, dict) else ((None, None),):
        if not isinstance(name, str) or not isinstance(entry, TensorStorageMetadata):
            raise CheckpointError("lists other things than tensors, which are not read.")
        size, properties, parts = _attributes(entry, TensorStorageMetadata, "size", "properties", "chunks")
        (dtype,) = _attributes(properties, TensorProperties, "dtype")
        if not _are_counts(size) or not isinstance(dtype, torch.dtype):
            raise CheckpointError(f"gives {printable(name, 120)} no size or no type.")
        if _volume_of_parts(parts, len(size)) != math.prod(size):
            raise CheckpointError(f"gives {printable(name, 120)} parts that do not make it up.")
        claimed += math.prod(size) * dtype.itemsize
    if claimed > held:
        raise CheckpointError(f"claims {claimed} bytes of tensors in files of {held}.")


def _volume_of_parts(parts: Any, num_dims: int) -> int:
    """Add up the values of a tensor's parts; -1 where they are none."""
    if not isinstance(parts, list):
        return -1
    spans = [_attributes(part, ChunkStorageMetadata, "offsets", "sizes") for part in parts]
    if not all(_are_counts(span) and len(span) == num_dims for pair in spans for span in pair):
        return -1
    return sum(math.prod(sizes) for _, sizes in spans)


def _attributes(thing: Any, kind: type, *names: str) -> list[Any]:
    """Give attributes that an unpickled object may lack, or hold anything under; None where it lacks one."""
    held = vars(thing) if isinstance(thing, kind) else {}
    return [held.get(name) for name in names]


def _are_counts(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and 0 <= value < 2**53 for value in values)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("pathlib", "pathlib._local") and name.endswith(("PosixPath", "WindowsPath")):
            # Where the folder was written; of no use, and the other system's kind cannot be built.
            return PurePosixPath
        if name not in _ALLOWED.get(module, ()):
            raise CheckpointError(
                f"refused: it holds a Python object ({printable(f'{module}.{name}', 120)}) that could run code."
            )
        return super().find_class(module, name)
