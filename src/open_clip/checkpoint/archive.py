"""Reading the tensors of a TorchScript archive without running it. What the archive's code says is never looked at.

OpenAI published CLIP as such archives: a zip with ``data.pkl`` (the tree of modules), a file per storage, and code.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_clip.errors import CheckpointError, printable

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_MAX_DEPTH = 64
_OPENAI_MARK = b"input_resolution"
# A tree of modules without its tensors takes a few hundred kilobytes.
_MAX_TREE_BYTES = 64 << 20
# Modules that hold each other twice unfold to any number of names; the largest published model has 1,500.
_MAX_ENTRIES = 100_000


class _ScriptObject:
    """Stands for a scripted module: keeps its attributes, has no behaviour."""

    attributes: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Storage:
    """Stands for a storage type in the pickle: only its element type matters."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


def _keep_first(value: Any, *_: Any) -> Any:
    return value


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """Look at a storage as a tensor; torch checks that size, stride and offset stay inside it."""
    if not isinstance(storage, Tensor):
        raise CheckpointError("the archive builds a tensor from something that is not a storage. Fetch the file again.")
    tensor = torch.as_strided(storage, tuple(size), tuple(stride), int(offset))
    if tensor.numel() > storage.numel():
        # A few bytes seen again and again through a stride of 0 would fill the memory when they are copied.
        raise CheckpointError("the archive holds a tensor larger than its storage. Fetch the file again.")
    return tensor


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _keep_first,
    ("torch.jit._pickle", "build_intlist"): _keep_first,
    ("torch.jit._pickle", "build_doublelist"): _keep_first,
    ("torch.jit._pickle", "build_boollist"): _keep_first,
    ("torch.jit._pickle", "build_tensorlist"): _keep_first,
    ("torch.jit._pickle", "restore_type_tag"): _keep_first,
}


class _TensorUnpickler(pickle._Unpickler):
    """An unpickler that can build tensors, plain containers and module stand-ins, and nothing else.

    Python's own, since the one in C asks for as much memory as a number in the file says.
    """

    def __init__(self, data: bytes, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(data))
        self._archive = archive
        self._root = root
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Resolve the few names an archive needs."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "torch" and name in _STORAGE_DTYPES:
            return _Storage(_STORAGE_DTYPES[name])
        if module.split(".")[0] == "__torch__":
            return _ScriptObject
        raise CheckpointError(
            f"refused: its data asks for {printable(f'{module}.{name}', 120)}, which is neither a tensor nor a module; "
            "building it could run code."
        )

    def persistent_load(self, pid: Any) -> Tensor:
        """Read the storage that a tensor is cut from."""
        match pid:
            case ("storage", _Storage(dtype=dtype), str(key), _, int(num_elements)):
                if key not in self._storages:
                    self._storages[key] = self._read_storage(key, dtype, num_elements)
                return self._storages[key]
        raise CheckpointError(
            "the archive names a storage in an unknown way. Convert the file to safetensors elsewhere."
        )

    def _read_storage(self, key: str, dtype: torch.dtype, num_elements: int) -> Tensor:
        name = f"{self._root}/data/{key}"
        try:
            content = self._archive.read(name)
        except KeyError:
            raise CheckpointError(f"the archive has no member {printable(name, 200)}. Fetch the file again.") from None
        if len(content) != num_elements * dtype.itemsize:
            raise CheckpointError(
                f"member {printable(name, 200)} has {len(content)} bytes, not {num_elements * dtype.itemsize}."
            )
        return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def find_data_root(archive: zipfile.ZipFile, member: str = "data.pkl") -> str | None:
    """Find the folder of a torch zip file that has ``member``; None when there is none."""
    for name in archive.namelist():
        folder, _, base = name.rpartition("/")
        if base == member and folder and "/" not in folder:
            return folder
    return None


def is_openai_archive(path: str | Path) -> bool:
    """Tell whether a file is one of OpenAI's TorchScript archives, which hold the image's size; no tensor is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            root = find_data_root(archive, member="constants.pkl")
            if root is None or archive.getinfo(f"{root}/data.pkl").file_size > _MAX_TREE_BYTES:
                return False
            return _OPENAI_MARK in archive.read(f"{root}/data.pkl")
    except Exception:
        # zipfile answers damage with half a dozen kinds of errors; whoever reads the file names them.
        return False


def read_script_archive(archive: zipfile.ZipFile, root: str) -> dict[str, Tensor]:
    """Read every tensor a TorchScript archive's modules hold, named by its path in the tree of modules.

    Raises:
        CheckpointError: the data asks for anything but tensors, containers and modules, or is damaged.
    """
    names = set(archive.namelist())
    if f"{root}/byteorder" in names and archive.read(f"{root}/byteorder") != b"little":
        raise CheckpointError("was written on a big-endian machine; convert it to safetensors there.")
    try:
        tree = _TensorUnpickler(archive.read(f"{root}/data.pkl"), archive, root).load()
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(f"its data.pkl is damaged ({type(error).__name__}). Fetch the file again.") from error
    tensors: dict[str, Tensor] = {}
    for seen, (name, value) in enumerate(_walk(tree, "", 0)):
        if seen == _MAX_ENTRIES:
            raise CheckpointError("its modules hold each other again and again. Fetch the file again.")
        if isinstance(value, Tensor):
            tensors[name] = value
    return tensors


def _walk(node: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > _MAX_DEPTH:
        raise CheckpointError("its modules are nested without end. Fetch the file again.")
    for name, value in getattr(node, "attributes", {}).items() if isinstance(node, _ScriptObject) else ():
        yield f"{prefix}{name}", value
        yield from _walk(value, f"{prefix}{name}.", depth + 1)
