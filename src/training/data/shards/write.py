"""Writing tar shards: bytes that follow from the samples alone, each shard whole or not there."""

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from open_clip.files import TEMPORARY, is_real_folder, new_file, read_plain, sync_folder
from training.data.decode import MAX_FILE_BYTES, ImageBytes, ImageError, why_not_a_file
from training.data.quarantine import one_line

# The suffixes that readers of shards look for.
_SUFFIXES: Final = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_MODE: Final = 0o644


class Sample(NamedTuple):
    """One sample: its key, and a file a suffix."""

    key: str
    members: Mapping[str, bytes]


class WrittenShard(NamedTuple):
    """A shard as it was written."""

    samples: int
    num_bytes: int
    sha256: str


def write_shard(path: Path, samples: Iterable[Sample]) -> WrittenShard:
    """Write samples in their order, the members of each side by side and sorted by suffix.

    No time, user or machine stands in the file: equal samples give equal bytes.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    count = 0
    with new_file(path) as file:
        hashed = _Hashed(file)
        # As a stream, whose bytes pass through in their order.
        with tarfile.open(fileobj=hashed, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for sample in samples:
                for suffix, content in sorted(sample.members.items()):
                    info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                    info.size, info.mode = len(content), _MODE
                    archive.addfile(info, io.BytesIO(content))
                count += 1
    return WrittenShard(count, hashed.num_bytes, hashed.digest.hexdigest())


def write_folder(path: Path, samples: Iterable[Sample]) -> WrittenShard:
    """Write samples as files of a folder, to be made a tar of later; it gets its name when all of it is on the disk.

    Returns:
        The shard; its hash is that of `digest_files` over the files by their names.

    Raises:
        OSError: it cannot be written, or something of its name is there that is no such folder.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    for old in (temporary, path):
        if old.exists() and is_real_folder(old):
            shutil.rmtree(old)
    temporary.mkdir()
    count = 0
    for sample in samples:
        for suffix, content in sample.members.items():
            (temporary / f"{sample.key}.{suffix}").write_bytes(content)
        count += 1
    sync_folder(temporary)
    temporary.rename(path)
    sync_folder(path.parent)
    names = sorted(os.listdir(path))
    num_bytes = sum(os.path.getsize(path / name) for name in names)
    return WrittenShard(count, num_bytes, digest_files((name, (path / name).read_bytes()) for name in names))


def digest_files(files: Iterable[tuple[str, bytes]]) -> str:
    """Return one SHA-256, in hex, of names and contents in their order."""
    digest = hashlib.sha256()
    for name, content in files:
        digest.update(f"{name}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest()


def read_image_file(path: str) -> tuple[str, bytes]:
    """Read the file of an image as it is, and decode it to see that it can be.

    Returns:
        The suffix that it has in a shard, and its bytes.

    Raises:
        DataError: it is not there, cannot be decoded, or is of a form that readers of shards do not look for.
    """
    reason = why_not_a_file(path)
    if reason is not None:
        raise ImageError(reason)
    try:
        content = read_plain(path, MAX_FILE_BYTES)
    except OSError as error:
        raise ImageError(f"image cannot be read: {one_line(error)}") from None
    suffix = _SUFFIXES.get(ImageBytes(content).open().format or "")
    if suffix is None:
        raise ImageError("not a JPEG, PNG or WebP image")
    return suffix, content


class _Hashed(io.RawIOBase):
    """A file that is written, with the hash and the number of its bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self.digest.update(content)
        self.num_bytes += len(content)
        return self._file.write(content)
