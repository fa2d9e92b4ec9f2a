"""Open and write files of a name that others may choose.

What is written is written whole or not at all, and never through a link that somebody planted (CWE-59). What is read is
a plain file: a pipe or a device under its name would hold the process or never end.
"""

import contextlib
import errno
import glob
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# How the name of a file that is still being written starts; a killed process leaves such files behind.
TEMPORARY = ".tmp-"


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[BinaryIO]:
    """Give a file to write that gets its name once every byte is on the disk.

    It is written beside its place under a temporary name, flushed to the disk, and renamed: a kill or a full disk at
    any moment leaves what was there. A link of that name is replaced, not followed. After an exception nothing is left;
    what a killed process left of the same file is removed.

    Raises:
        OSError: When it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    _remove_dead(path, temporary)
    try:
        with _create_held(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _create_held(temporary: Path) -> BinaryIO:
    """Create a file and lock it for as long as it is open: the system lets the lock go when its process dies."""
    import fcntl

    while True:
        file = temporary.open("xb")
        # Some file systems lock nothing; there nobody takes a file for a dead one's either.
        with contextlib.suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        # Somebody took it for a dead one's between the two lines above.
        file.close()


def _remove_dead(path: Path, own: Path) -> None:
    """Delete half-written files of this name whose writers are gone, as far as it can be."""
    # Imported here, as above: not every system has it, and the library's import must not fail for that.
    import fcntl

    for leftover in path.parent.glob(f"{TEMPORARY}{glob.escape(path.name)}-*"):
        if leftover == own or not leftover.name.rpartition("-")[2].isdigit():
            continue
        with contextlib.suppress(OSError), open_to_change(leftover) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Replace a small file in one step; text is written as UTF-8, lone surrogates as escapes.

    Raises:
        OSError: When it cannot be written; what was there stays.
    """
    with new_file(path) as file:
        file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def remove_leftovers(folder: str | Path) -> None:
    """Delete what killed processes left half-written, as far as it can be; for the only one that writes there now."""
    for leftover in Path(folder).glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if is_real_folder(leftover):
                shutil.rmtree(leftover)
            else:
                leftover.unlink()


def open_to_append(path: str | Path) -> BinaryIO:
    """Open a file for adding to its end, unbuffered: a killed process loses no line.

    Raises:
        OSError: When it cannot be opened, or is a link, a pipe or a device instead of a plain file.
    """
    return open(open_descriptor(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW), "ab", buffering=0)


def open_to_change(path: str | Path) -> BinaryIO:
    """Open a file that is there for changing it in place.

    Raises:
        OSError: As :func:`open_to_append`.
    """
    return open(open_descriptor(path, os.O_RDWR | os.O_NOFOLLOW), "r+b")


def open_plain(path: str | Path) -> BinaryIO:
    """Open a plain file for reading, or a link to one; nothing is waited for.

    Raises:
        OSError: When it cannot be opened, or is a pipe, a socket or a device, which may never end.
    """
    return open(open_descriptor(path, os.O_RDONLY), "rb")


def read_plain(path: str | Path, most_bytes: int) -> bytes:
    """Read a small plain file whole.

    Raises:
        OSError: As :func:`open_plain`, or when it is larger than ``most_bytes``.
    """
    with open_plain(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"larger than {most_bytes:,} bytes", str(path))
    return content


def open_descriptor(path: str | Path, flags: int) -> int:
    """Open a file with flags of ``os.open``, if it is a plain one; for what needs the descriptor alone.

    Raises:
        OSError: When it cannot be opened, or is a folder, a pipe, a socket or a device; where the flags say
            ``O_NOFOLLOW``, a link too.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except ValueError as error:
        raise OSError(errno.EINVAL, f"no name of a file ({error})", str(path)) from None
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "not a plain file", str(path)) from None
        if error.errno == errno.ELOOP and flags & os.O_NOFOLLOW:
            raise OSError(errno.ELOOP, "a link stands under this name and is not followed", str(path)) from None
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a plain file", str(path))


def make_folder(path: str | Path) -> None:
    """Make a folder inside one that is there, unless it is there already.

    Raises:
        OSError: When it cannot be made, or a link or a file stands under its name.
    """
    try:
        os.mkdir(path)
    except FileExistsError:
        if not is_real_folder(path):
            raise OSError(errno.ENOTDIR, "a link or a file stands under this name", str(path)) from None


def is_real_folder(path: str | Path) -> bool:
    """Tell whether a folder itself, and no link to one, stands under a name."""
    return stat.S_ISDIR(os.lstat(path).st_mode)


def sync_folder(folder: str | Path) -> None:
    """Wait until the disk has the folder's newest names."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
