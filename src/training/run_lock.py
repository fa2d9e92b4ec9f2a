"""One process at a time writes into a run folder: a lock that names its owner and never outlives it.

The system's own lock decides where the file system has one: it ends with the process that holds it, however that dies,
and no data worker inherits it. Where locks do not reach (another machine over some network file systems), the owner's
heartbeat in the lock file does.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from open_clip.errors import ConfigError, printable
from open_clip.files import open_descriptor

LOCK_NAME = "run.lock"
_LOG = logging.getLogger(__name__)
_BEAT_S = 5.0
# Beats of a silent owner before it is taken to be dead.
_SILENT_BEATS = 6
_LONGEST = 4096
_SETTLING_S = 1.0
# What a file system without locks answers.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
# The system's lock does not keep a process from itself.
_HELD: set[Path] = set()


@dataclass(frozen=True)
class Owner:
    """The process that writes into a run folder.

    Attributes:
        host: Name of its machine.
        boot: What tells this start of the machine from others; empty where unknown.
        space: What tells its process numbers from those of another container; empty where unknown.
        pid: Its number.
        born: When it started, in the system's own count; empty where unknown.
        since: When it took the folder, for people.
    """

    host: str
    boot: str
    space: str
    pid: int
    born: str
    since: str

    @classmethod
    def of_this_process(cls) -> "Owner":
        """Describe this process."""
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(socket.gethostname(), _boot_id(), _pid_space(), os.getpid(), _born(os.getpid()), since)

    def describe(self) -> str:
        """Name it for a person."""
        return f"process {self.pid} on {printable(self.host, 80)} (since {printable(self.since, 40)})"

    def is_gone(self) -> bool | None:
        """Tell whether it has ended; None where that cannot be seen from here."""
        here = Owner.of_this_process()
        if (self.host, self.boot, self.space) != (here.host, here.boot, here.space):
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            return False
        return _born(self.pid) != self.born


@contextlib.contextmanager
def locked(folder: Path, beat_s: float = _BEAT_S) -> Iterator[None]:
    """Hold a run folder while inside.

    Args:
        folder: The run folder, which is there.
        beat_s: Seconds between two signs of life.

    Raises:
        ConfigError: Another process holds it; names the process and the way out.
        OSError: The lock cannot be written: a full or read-only disk, or something else than a file of this name.
    """
    path = folder / LOCK_NAME
    if path in _HELD:
        raise _refusal(path, Owner.of_this_process())
    descriptor = _take(path, beat_s)
    _HELD.add(path)
    ended, pid = threading.Event(), os.getpid()
    beating = threading.Thread(target=_beat, args=(descriptor, ended, beat_s), name="run-lock", daemon=True)
    beating.start()
    try:
        yield
    finally:
        # A forked process that comes by here on its way out owns nothing.
        if os.getpid() == pid:
            ended.set()
            beating.join(timeout=beat_s)
            _HELD.discard(path)
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(descriptor)


def _take(path: Path, beat_s: float) -> int:
    silent: Owner | None = None
    while True:
        descriptor = open_descriptor(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        try:
            is_held = _lock(descriptor, path)
            before = _read_owner(descriptor)
            is_free = before is None or before == silent or _has_ended(before, path, is_held=is_held)
            # Its owner may have removed the file between the opening and the locking: then it is no longer the lock.
            if is_free and _is_the_file(descriptor, path):
                _claim(descriptor, path, is_held=is_held)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not is_free:
            assert before is not None
            _wait_for_silence(before, path, beat_s)
            silent = before


def _lock(descriptor: int, path: Path) -> bool:
    """Ask for the system's lock; tells whether this file system has any.

    A POSIX lock, since one of flock's kind would be kept by a forked data worker that outlives its run.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise _refusal(path, _read_owner(descriptor)) from None
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _has_ended(owner: Owner, path: Path, *, is_held: bool) -> bool:
    """Tell whether an owner whose name still stands in the file is gone; False where that cannot be seen from here.

    Raises:
        ConfigError: It lives.
    """
    if is_held and owner.boot and owner.boot == _boot_id():
        # One kernel, one table of locks: had it lived, the lock would be its own, whatever container it is in.
        return True
    is_gone = owner.is_gone()
    if is_gone is False:
        raise _refusal(path, owner)
    return bool(is_gone)


def _wait_for_silence(owner: Owner, path: Path, beat_s: float) -> None:
    """Watch the file for a sign of life; no clock is compared with that of another machine.

    The system's lock is not held meanwhile: a network file system tells the news when a file is opened, and closing it
    would give the lock back.

    Raises:
        ConfigError: There was one.
    """
    wait_s = _SILENT_BEATS * beat_s
    _LOG.warning("%s names %s: waiting %.0f s for a sign of life of it.", path, owner.describe(), wait_s)
    seen = _last_beat(path)
    for _ in range(_SILENT_BEATS):
        time.sleep(beat_s)
        if _last_beat(path) not in (seen, None):
            raise _refusal(path, owner)


def _claim(descriptor: int, path: Path, *, is_held: bool) -> None:
    mine = Owner.of_this_process()
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(mine)).encode() + b"\n", 0)
        os.fsync(descriptor)
    except OSError as error:
        # Where the system's lock holds, a full disk costs only the owner's name.
        if not is_held or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
    if not is_held:
        # Of two that came at once the last to write has it.
        time.sleep(_SETTLING_S)
        other = _read_owner(descriptor)
        if other != mine:
            raise _refusal(path, other)


def _refusal(path: Path, owner: Owner | None) -> ConfigError:
    who = "another process" if owner is None else owner.describe()
    return ConfigError(
        f"{path.parent} is in use by {who}: two runs in one folder would destroy each other's files. Wait for its end "
        f"or stop it, or give another --name (--logs-dir none evaluates beside it). If that machine is gone for good, "
        f"remove {path}."
    )


def _beat(descriptor: int, ended: threading.Event, beat_s: float) -> None:
    while not ended.wait(beat_s):
        with contextlib.suppress(OSError):
            os.utime(descriptor)


def _last_beat(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)
    return None


def _is_the_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _read_owner(descriptor: int) -> Owner | None:
    """Read who holds the folder; None when the file is new or says nothing usable."""
    try:
        found = json.loads(os.pread(descriptor, _LONGEST, 0))
        owner = Owner(**{name: str(value) for name, value in found.items() if name != "pid"}, pid=int(found["pid"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None
    return owner if owner.pid > 0 else None


def _boot_id() -> str:
    return _read_line("/proc/sys/kernel/random/boot_id")


def _pid_space() -> str:
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _born(pid: int) -> str:
    # The name before it may hold spaces and brackets; the start is the 20th field after the last bracket.
    fields = _read_line(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""


def _read_line(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.readline().strip()
    return ""
