"""Tensors out of files that ``torch.save`` and ``torch.jit.save`` write, without running any code of them.

A file is a pickle, which names storages, and the storages: members of a zip, or in the older format one after another.
Python's own ``pickle.dump`` puts the storages into the pickle, each as a file of the older format.
Source: torch 1.0 to 2.14, torch/serialization.py (_legacy_save, _save), torch/_utils.py (_rebuild_tensor_v2 and v3).
"""

import io
import os
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO

import torch
from torch import Tensor

from open_clip.checkpoint.pickled_values import WAY_OUT, Named
from open_clip.checkpoint.pickles import MOST_BYTES, PlainUnpickler
from open_clip.errors import CheckpointError, printable

# Lengths of the name and of the extra field, which stand before a member's bytes. Source: APPNOTE.TXT 4.3.7
_LOCAL_HEADER = "<26xHH"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_BIG_ENDIAN = "was written on a big-endian machine; convert it to safetensors there."
_DAMAGED = "the file is cut short or damaged ({}). Fetch or write it again."


@dataclass(frozen=True)
class Storage:
    """The bytes of one or more tensors, uint8 [bytes], and the type of what is in them."""

    content: Tensor
    dtype: torch.dtype


class ZipStorages:
    """Reads the storages of a zip file as its pickle asks for them, each once.

    Args:
        archive: The zip file.
        root: The folder in it that holds everything.
    """

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self._archive = archive
        self._root = root
        self._read: dict[str, Tensor] = {}

    def __call__(self, pid: object) -> Storage:
        """Give the storage that a persistent id names."""
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), _, int(num_elements)):
                if key not in self._read:
                    self._read[key] = self._read_member(f"{self._root}/data/{key}")
                content = self._read[key]
                if len(content) != num_elements * dtype.itemsize:
                    raise CheckpointError(
                        f"member {printable(key, 200)} has {len(content)} bytes, not {num_elements * dtype.itemsize}. "
                        "Fetch or write the file again."
                    )
                return Storage(content, dtype)
        raise CheckpointError(f"it names a storage in an unknown way. {WAY_OUT}")

    def _read_member(self, name: str) -> Tensor:
        try:
            member = self._archive.getinfo(name)
        except KeyError:
            raise CheckpointError(f"the archive has no member {printable(name, 200)}. Fetch the file again.") from None
        content = torch.empty(member.file_size, dtype=torch.uint8)
        if member.compress_type != zipfile.ZIP_STORED:
            with self._archive.open(member) as file:
                _read_into(file, content)
            return content
        # Straight into the tensor: zipfile would copy it twice, and compare a checksum that was compared already.
        raw = self._archive.fp
        assert raw is not None
        raw.seek(member.header_offset)
        name_bytes, extra_bytes = struct.unpack(_LOCAL_HEADER, raw.read(struct.calcsize(_LOCAL_HEADER)))
        raw.seek(name_bytes + extra_bytes, os.SEEK_CUR)
        _read_into(raw, content)
        return content


def read_zip(archive: zipfile.ZipFile, root: str, records: tuple[str, ...] = ()) -> object:
    """Read what a torch zip file holds.

    Args:
        archive: The file.
        root: The folder in it that holds everything.
        records: Beginnings of names of classes that become a ``PickledObject``.

    Raises:
        CheckpointError: It holds anything but tensors and plain data, or is damaged.
    """
    if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
        raise CheckpointError(_BIG_ENDIAN)
    name = f"{root}/data.pkl"
    if archive.getinfo(name).file_size > MOST_BYTES:
        raise CheckpointError(f"it holds more than {MOST_BYTES} bytes beside its weights, which no checkpoint does.")
    content = io.BytesIO(archive.read(name))
    return PlainUnpickler(content, TENSORS, records=records, storage=ZipStorages(archive, root)).unpickle()


def read_pickled(file: BinaryIO, size: int) -> object:
    """Read a file of ``size`` bytes that begins with a pickle: torch's format before 1.6, or a bare pickle of tensors.

    Raises:
        CheckpointError: As :func:`read_zip`.
    """
    first = PlainUnpickler(file, TENSORS | _STORED_INSIDE, content_bytes=size).unpickle()
    is_magic = isinstance(first, int) and first == _LEGACY_MAGIC
    return _read_legacy(file, size) if is_magic else first


def _read_legacy(file: BinaryIO, size: int) -> object:
    """Read what follows the first pickle of the format that torch wrote before 1.6, and writes when it is asked to."""
    protocol, system = PlainUnpickler(file).unpickle(), PlainUnpickler(file).unpickle()
    if protocol != _LEGACY_PROTOCOL or not isinstance(system, dict):
        raise CheckpointError(_DAMAGED.format("its beginning is of no known version"))
    if system.get("little_endian") is not True:
        raise CheckpointError(_BIG_ENDIAN)
    storages = _LegacyStorages(size)
    loaded = PlainUnpickler(file, TENSORS, storage=storages).unpickle()
    storages.fill(PlainUnpickler(file).unpickle(), file)
    return loaded


class _LegacyStorages:
    """Makes the storages that a pickle names; what is in them comes after the pickle."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._made: dict[str, Storage] = {}

    def __call__(self, pid: object) -> Storage:
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), _, int(num_elements), view):
                if key not in self._made:
                    self._left -= max(num_elements, 0) * dtype.itemsize
                    # Before the memory is asked for: a number may be any.
                    if num_elements < 0 or self._left < 0:
                        raise CheckpointError(_DAMAGED.format("it names more bytes than it has"))
                    self._made[key] = Storage(torch.empty(num_elements * dtype.itemsize, dtype=torch.uint8), dtype)
                whole = self._made[key].content
                match view:
                    case None:
                        return Storage(whole, dtype)
                    case (_, int(start), int(size)):
                        return Storage(whole.narrow(0, start * dtype.itemsize, size * dtype.itemsize), dtype)
        raise CheckpointError(f"it names a storage in an unknown way. {WAY_OUT}")

    def fill(self, keys: object, file: BinaryIO) -> None:
        """Read the storages' bytes, which stand in the file in the order of their keys."""
        if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(self._made):
            raise CheckpointError(_DAMAGED.format("its storages are not those that it names"))
        for key in keys:
            storage = self._made[key]
            num_elements = int.from_bytes(file.read(8), "little")
            if num_elements * storage.dtype.itemsize != len(storage.content):
                raise CheckpointError(_DAMAGED.format("a storage has another length than it says"))
            _read_into(file, storage.content)


def _read_into(file: IO[bytes], content: Tensor) -> None:
    left = memoryview(content.numpy())  # type: ignore[arg-type]
    while left:
        count = file.readinto(left)  # type: ignore[attr-defined]
        if not count:
            raise CheckpointError(_DAMAGED.format("a storage ends too early"))
        left = left[count:]


def _tensor(storage: object, offset: int, size: Sequence[int], stride: Sequence[int], *rest: object) -> Tensor:
    """Look at a storage as a tensor; torch checks that size, stride and offset stay inside it."""
    if not isinstance(storage, Storage):
        raise CheckpointError("it builds a tensor from something that is not a storage. Fetch the file again.")
    content = storage.content.view(storage.dtype)
    tensor = torch.as_strided(content, tuple(size), tuple(stride), int(offset))
    if tensor.numel() > content.numel():
        # A few bytes seen again and again through a stride of 0 would fill the memory when they are copied.
        raise CheckpointError("it holds a tensor larger than its storage. Fetch the file again.")
    return tensor


def _typed_tensor(
    storage: Storage, offset: int, size: Sequence[int], stride: Sequence[int], _: object, __: object, dtype: torch.dtype
) -> Tensor:
    return _tensor(Storage(storage.content, dtype), offset, size, stride)


def _storage_inside(content: bytes) -> object:
    """Make the storage that stands in a bare pickle. What is in it is no bare pickle, so files do not nest."""
    file = io.BytesIO(content)
    if PlainUnpickler(file).unpickle() != _LEGACY_MAGIC:
        raise CheckpointError(_DAMAGED.format("a storage in it is of no known version"))
    return _read_legacy(file, len(content))


def _first(value: object, *_: object) -> object:
    return value


def _plain_tensor(build: Named, kind: Named, arguments: tuple[object, ...], *_: object) -> object:
    """Build a tensor that had attributes of its own, without them; another class of tensors has no row in the table."""
    if build.build is None or kind.name not in _PLAIN_KINDS:
        raise CheckpointError(f"refused: it builds a tensor by {printable(build.name, 120)}. {WAY_OUT}")
    return build.build(*arguments)


def _layout(name: str) -> str:
    return name


def _device(*place: object) -> str:
    return ":".join(map(str, place))


_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
_PLAIN_KINDS = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_LISTS = ("intlist", "doublelist", "boollist", "tensorlist")
#: Full name to what stands in its place: tensors, and the small values that stand beside them.
TENSORS: dict[str, object] = {
    **{f"torch.{name}Storage": dtype for name, dtype in _STORAGES.items()},
    **dict.fromkeys(("torch.UntypedStorage", "torch.storage.UntypedStorage"), torch.uint8),
    **{str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)},
    **dict.fromkeys(_PLAIN_KINDS, None),
    **{f"torch.jit._pickle.build_{name}": _first for name in _LISTS},
    "torch.jit._pickle.restore_type_tag": _first,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": lambda *parts: _typed_tensor(*parts[:7]),
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _plain_tensor,
    "torch.serialization._get_layout": _layout,
    "torch.Size": torch.Size,
    "torch.device": _device,
}
_STORED_INSIDE: dict[str, object] = {"torch.storage._load_from_bytes": _storage_inside}
