"""Arrays of one row, as numpy keeps them: never unpickled, and never more memory than a limit.

Which file a column's array stands in is `members.py`'s.
"""

import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from open_clip.checkpoint.arrays import read_array
from open_clip.errors import DataError, printable
from training.data.source import MissingKey

# Of an array file, packed and unpacked: a row of a batch, not a data set.
MAX_ARRAY_BYTES: Final = 1 << 26
_MAX_ARRAYS: Final = 1_000
# What each member starts with in the list at the end of a zip file.
_MEMBER_MARK: Final = b"PK\x01\x02"

_Value = TypeVar("_Value")
Array = npt.NDArray[np.generic]


def read_array_file(content: bytes) -> Array:
    """Read an array (``.npy``).

    Raises:
        DataError: it is damaged, or holds something else than numbers.
    """
    return _checked(lambda: _read_one(content))


def read_archive(content: bytes, key: str | None) -> Array | dict[str, Array]:
    """Read the arrays of an archive (``.npz``) by their names, or the one of a name.

    Raises:
        DataError: it is damaged, over a limit, or holds something else than numbers.
        MissingKey: it has no array of that name.
    """
    arrays = _checked(lambda: _read_arrays(content, key))
    return arrays if key is None else arrays[key]


def _read_arrays(content: bytes, key: str | None) -> dict[str, Array]:
    # Before the archive is opened: its list of members takes ten times the memory of the bytes that spell it.
    if content.count(_MEMBER_MARK) > _MAX_ARRAYS:
        raise DataError(f"npz holds more than {_MAX_ARRAYS:,} arrays")
    with zipfile.ZipFile(BytesIO(content)) as archive:
        members = {one.filename.removesuffix(".npy"): one for one in archive.infolist()}
        if key is not None and key not in members:
            raise MissingKey(f"npz holds nothing under {printable(key, 100)!r}", (f"npz:{one}" for one in members))
        wanted = members if key is None else {key: members[key]}
        num_bytes = sum(member.file_size for member in wanted.values())
        if num_bytes > MAX_ARRAY_BYTES:
            raise DataError(f"npz of {num_bytes:,} bytes unpacked is over the limit of {MAX_ARRAY_BYTES:,}")
        # Other ways of packing ask for any amount of memory by themselves.
        if any(one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for one in wanted.values()):
            raise DataError("npz is packed in another way than numpy does it")
        return {name: _read_one(_unpack(archive, member)) for name, member in wanted.items()}


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Unpack a member, never more than it claims to hold: a read without a size unpacks first and cuts then."""
    with archive.open(member) as file:
        return file.read(member.file_size)


def _read_one(content: bytes) -> Array:
    tensor = read_array(content)
    # numpy has no bfloat16; float32 holds each of its numbers.
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _checked(read: Callable[[], _Value]) -> _Value:
    try:
        return read()
    except DataError:
        raise
    # Damaged archives and made-up headers raise nearly anything; each becomes one named reason.
    except Exception as error:
        reason = printable(" ".join(str(error).split()) or type(error).__name__, 200)
        raise DataError(f"array file cannot be read: {reason}") from None
