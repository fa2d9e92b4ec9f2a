"""Reading numpy's array archives (``.npz``). Objects in them are pickles and are refused, never built.

Which file this is and whether its checksums hold is ``read.py``'s job.
"""

import io
import math
import zipfile
from collections.abc import Sequence

import numpy as np
import torch
from numpy.lib import format as npy_format
from torch import Tensor

from open_clip.errors import CheckpointError, printable

_SUFFIX = ".npy"
_NUMBERS = "fiub"
# numpy knows no bfloat16: an array of them is written as two bytes of no type.
_BFLOAT16 = np.dtype("V2")


def is_array_archive(names: Sequence[str]) -> bool:
    """Tell from the names of a zip file's members whether numpy wrote it."""
    return bool(names) and all(name.endswith(_SUFFIX) for name in names)


def read_array_archive(archive: zipfile.ZipFile) -> dict[str, Tensor]:
    """Read every array of an archive, by its name.

    Raises:
        CheckpointError: a member is damaged or holds something else than numbers.
    """
    tensors = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(_SUFFIX)
        try:
            with archive.open(member) as file:
                # Asked for all, it would unpack up to 2 GB before it cuts them to what the member claims.
                tensors[name] = read_array(file.read(member.file_size))
        except (ValueError, TypeError, SyntaxError) as error:
            raise CheckpointError(
                f"its array {printable(repr(name), 120)} {printable(error, 300)}. Fetch or write the file again."
            ) from error
    return tensors


def describe_array(head: bytes) -> str:
    """Say what is wrong with a file that is one bare array, from its beginning."""
    try:
        if _read_header(io.BytesIO(head))[2].hasobject:
            return (
                "refused: it holds Python objects, which numpy keeps as a pickle, and building them could run code. "
                "Ask its author for an .npz of plain arrays or for safetensors."
            )
    except (ValueError, TypeError, SyntaxError):
        return "the file is cut short or damaged. Fetch or write it again."
    return "holds a single array without a name, not the weights of a model. Give the .npz with all of them."


def _read_header(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = npy_format.read_magic(file)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(file)
    if version == (2, 0):
        return npy_format.read_array_header_2_0(file)
    raise ValueError("has fields with names instead of numbers")


def read_array(content: bytes) -> Tensor:
    """Read one array in numpy's own form (``.npy``).

    Raises:
        CheckpointError: it holds Python objects.
        ValueError: it is damaged, or holds something else than numbers; numpy may raise TypeError and SyntaxError too.
    """
    file = io.BytesIO(content)
    shape, is_fortran, dtype = _read_header(file)
    if dtype.hasobject:
        raise CheckpointError(
            "refused: it holds Python objects, which numpy keeps as pickles, and building them could run code. "
            "Ask its author for plain arrays, best as safetensors."
        )
    if dtype.kind not in _NUMBERS and dtype != _BFLOAT16:
        raise ValueError(f"holds no numbers but {dtype}")
    start = file.tell()
    # Before the memory is asked for: a header may promise anything.
    if len(content) - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"has {len(content) - start} bytes, which is not what its shape {shape} takes")
    flat = np.frombuffer(content, dtype, offset=start)
    array = flat.reshape(shape, order="F" if is_fortran else "C")
    if dtype == _BFLOAT16:
        return torch.from_numpy(array.view(np.int16).copy(order="C")).view(torch.bfloat16)
    return torch.from_numpy(array.astype(dtype.newbyteorder("="), order="C", copy=True))
