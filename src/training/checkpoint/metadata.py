"""Read the index of a folder of shards without running code: torch's own reader unpickles whatever it finds."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from open_clip.checkpoint.pickled_values import PickledObject
from open_clip.checkpoint.pickles import PlainUnpickler
from open_clip.checkpoint.torch_files import TENSORS
from open_clip.errors import CheckpointError, printable
from open_clip.files import open_plain
from training.checkpoint.folders import sizes_of

# The classes that torch pickles into an index of tensors. Source: torch 2.6 to 2.14, distributed/checkpoint/metadata.py
_ROOM = "torch.distributed.checkpoint"
_CLASSES = (
    f"{_ROOM}.metadata.BytesStorageMetadata",
    f"{_ROOM}.metadata.ChunkStorageMetadata",
    f"{_ROOM}.metadata.Metadata",
    f"{_ROOM}.metadata.MetadataIndex",
    f"{_ROOM}.metadata.StorageMeta",
    f"{_ROOM}.metadata.TensorProperties",
    f"{_ROOM}.metadata.TensorStorageMetadata",
    f"{_ROOM}.metadata._MEM_FORMAT_ENCODING",
    f"{_ROOM}.filesystem._StorageInfo",
)


class ShardReader(FileSystemReader):
    """Reader of a folder of shards that builds nothing but the index's own plain classes."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Read the index.

        Raises:
            CheckpointError: When it holds anything else than an index of tensors in files of this folder.
        """
        metadata = read_metadata(Path(self.path))
        metadata.storage_meta = StorageMeta(load_id=self.load_id)
        return metadata


def read_metadata(folder: Path) -> Metadata:
    """Read the index of a folder of shards.

    Raises:
        CheckpointError: As :meth:`ShardReader.read_metadata`.
    """
    path = folder / ".metadata"
    try:
        with open_plain(path) as file:
            index = PlainUnpickler(file, TENSORS, records=_CLASSES).unpickle()
        sizes = sizes_of(folder)
        metadata = Metadata(_read_tensors(index, sum(sizes.values())), storage_data=_read_places(index, sizes))
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)}: {error} Take another checkpoint.") from None
    except OSError as error:
        raise CheckpointError(
            f"{printable(path)}: cannot be read ({error.strerror or error}). Take another checkpoint."
        ) from error
    return metadata


def _read_places(index: object, sizes: Mapping[str, int]) -> dict[MetadataIndex, _StorageInfo]:
    """Hold every part of a tensor to a file of the folder and to its length."""
    places = {}
    for key, place in _entries(index, "storage_data"):
        name, offset, length = _attributes(place, "_StorageInfo", "relative_path", "offset", "length")
        if not isinstance(name, str) or name not in sizes:
            raise CheckpointError("points at files outside its folder.")
        if not _are_counts((offset, length)) or offset + length > sizes[name]:
            raise CheckpointError(f"points past the end of {printable(name, 120)}.")
        tensor, start, number = _attributes(key, "MetadataIndex", "fqn", "offset", "index")
        if not isinstance(tensor, str) or not _are_counts(() if start is None else start):
            raise CheckpointError("names the parts of its tensors in an unknown way.")
        places[MetadataIndex(tensor, start, number if type(number) is int else None)] = _StorageInfo(
            name, offset, length
        )
    return places


def _read_tensors(index: object, held: int) -> dict[str, TensorStorageMetadata | BytesStorageMetadata]:
    """Hold every tensor to plain sizes, to parts that make it up, and all of them to the bytes that are there."""
    tensors: dict[str, TensorStorageMetadata | BytesStorageMetadata] = {}
    claimed = 0
    for name, entry in _entries(index, "state_dict_metadata"):
        if not isinstance(name, str) or not _is_a(entry, "TensorStorageMetadata"):
            raise CheckpointError("lists other things than tensors, which are not read.")
        properties, size, chunks = _attributes(entry, "TensorStorageMetadata", "properties", "size", "chunks")
        dtype = _dtype_of(properties)
        if not _are_counts(size) or dtype is None:
            raise CheckpointError(f"gives {printable(name, 120)} no size or no type.")
        parts = _read_parts(chunks, len(size))
        if sum(math.prod(part.sizes) for part in parts) != math.prod(size):
            raise CheckpointError(f"gives {printable(name, 120)} parts that do not make it up.")
        claimed += math.prod(size) * dtype.itemsize
        tensors[name] = TensorStorageMetadata(TensorProperties(dtype), torch.Size(size), parts)
    if claimed > held:
        raise CheckpointError(f"claims {claimed} bytes of tensors in files of {held}.")
    return tensors


def _read_parts(chunks: object, num_dims: int) -> list[ChunkStorageMetadata]:
    parts = []
    for chunk in chunks if isinstance(chunks, list) else ():
        offsets, sizes = _attributes(chunk, "ChunkStorageMetadata", "offsets", "sizes")
        if not all(_are_counts(span) and len(span) == num_dims for span in (offsets, sizes)):
            raise CheckpointError("gives a tensor a part of no size.")
        parts.append(ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)))
    return parts


def _dtype_of(properties: object) -> torch.dtype | None:
    """Give the type of a tensor's values: the first of what TensorProperties keeps in a tuple."""
    state = (
        properties.state if isinstance(properties, PickledObject) and _is_a(properties, "TensorProperties") else None
    )
    first = state[0] if isinstance(state, tuple) and state else None
    return first if isinstance(first, torch.dtype) else None


def _entries(index: object, name: str) -> list[tuple[object, object]]:
    (held,) = _attributes(index, "Metadata", name)
    if not isinstance(held, dict):
        raise CheckpointError("is no index of shards.")
    return list(held.items())


def _attributes(thing: object, kind: str, *names: str) -> list[Any]:
    """Give attributes of an object; None for those that it lacks, and for all of one of another class."""
    return [
        thing.attribute(name) if isinstance(thing, PickledObject) and _is_a(thing, kind) else None for name in names
    ]


def _is_a(thing: object, kind: str) -> bool:
    return isinstance(thing, PickledObject) and thing.kind.rpartition(".")[2] == kind


def _are_counts(values: object) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and 0 <= value < 2**53 for value in values)
