"""What a file is, from its first bytes: read them, tell safetensors, name what is no weights file. Reads no tensor."""

import string
import struct
from pathlib import Path

from open_clip.checkpoint.arrays import describe_array
from open_clip.errors import CheckpointError, printable
from open_clip.files import open_plain

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
GZIP_MAGIC = b"\x1f\x8b"
_NUMPY_MAGIC = b"\x93NUMPY"
_NUMPY_HEADER_BYTES = 1 << 16
_HEAD_BYTES = 64
_PRINTABLE = set(string.printable.encode())


def read_head(path: Path, num_bytes: int = _HEAD_BYTES) -> bytes:
    """Read the beginning of a file.

    Raises:
        CheckpointError: it is missing, empty, a folder or cannot be read.
    """
    try:
        with open_plain(path) as file:
            head = file.read(num_bytes)
    except FileNotFoundError:
        raise CheckpointError(f"{printable(path)}: there is no such file. Check the path.") from None
    except IsADirectoryError:
        raise CheckpointError(f"{printable(path)}: is a folder; name one weights file in it.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{printable(path)}: cannot be read: {reason}. Name a file that this user may read."
        ) from error
    if not head:
        raise CheckpointError(
            f"{printable(path)}: is empty; the write or the download was cut off. Fetch or write it again."
        )
    return head


def is_safetensors(path: Path, head: bytes) -> bool:
    """Tell whether a file begins as safetensors do: the length of a header that it is long enough for, then JSON."""
    return len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] + 8 <= path.stat().st_size


def name_unknown(path: Path, head: bytes) -> str:
    """Say what a file that is of no known kind seems to be, and what to do."""
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights themselves. Fetch them with `git lfs pull`."
    if head.lstrip()[:1] == b"<":
        return "is a web page, not weights: the download was answered by an error or login page. Download it again."
    if head.startswith(_NUMPY_MAGIC):
        return describe_array(read_head(path, _NUMPY_HEADER_BYTES))
    if _PRINTABLE.issuperset(head):
        return f"is text, not weights; it begins with {head.decode()[:40]!r}. Fetch or write it again."
    if path.suffix == ".safetensors":
        return "is not a whole safetensors file: its beginning is damaged. Fetch or write it again."
    return "is no torch, safetensors or .npz file, or its first bytes are damaged. Fetch or write it again."
