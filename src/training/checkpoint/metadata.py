"""Read the index of a folder of shards without running code: torch's own reader unpickles whatever it finds."""

import io
import pickle
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from open_clip.errors import CheckpointError
from training.checkpoint.folders import names_of

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
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:
        # A damaged pickle raises almost anything.
        raise CheckpointError(f"{path}: is damaged ({type(error).__name__}). Take another checkpoint.") from None
    if not isinstance(metadata, Metadata) or not isinstance(metadata.storage_data, dict):
        raise CheckpointError(f"{path}: is no index of shards. Take another checkpoint.")
    known = names_of(folder)
    files = {getattr(place, "relative_path", None) for place in metadata.storage_data.values()}
    if not files <= known:
        raise CheckpointError(f"{path}: points at files outside its folder. Take another checkpoint.")
    if not all(isinstance(entry, TensorStorageMetadata) for entry in metadata.state_dict_metadata.values()):
        raise CheckpointError(f"{path}: lists other things than tensors, which are not read. Take another checkpoint.")
    return metadata


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("pathlib", "pathlib._local") and name.endswith(("PosixPath", "WindowsPath")):
            # Where the folder was written; of no use, and the other system's kind cannot be built.
            return PurePosixPath
        if name not in _ALLOWED.get(module, ()):
            raise CheckpointError(f"refused: it holds a Python object ({module}.{name}) that could run code.")
        return super().find_class(module, name)
