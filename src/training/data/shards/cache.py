"""Copies of remote shards on this machine: each fetched once for all processes, whole, the least used dropped first.

It copies bytes and knows nothing of what is in them; how an address is opened is `shard_files.py`'s.
"""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from open_clip.errors import DataError, OpenClipError, printable
from open_clip.files import TEMPORARY, new_file
from training.data.quarantine import one_line
from training.data.shard_files import open_shard
from training.data.urls import local_path

_LOG = logging.getLogger(__name__)
_NUM_TRIES: Final = 4
_PAUSE_S: Final = 1.0
_BLOCK_BYTES: Final = 1 << 22
# Names are for people; what a folder or a pattern might not take stands in them as a line.
_ODD: Final = re.compile(r"[^\w.+=@,~ -]", re.ASCII)
_MAX_NAME: Final = 100


class ShardCache:
    """A folder of fetched shards.

    Args:
        folder: where they go; may be shared by processes and by runs.
        max_bytes: what the folder may hold; None for no limit. A shard in use that is dropped stays readable for those
            who have opened it.
        allow_pipe: run the shell command of a ``pipe:`` address.
    """

    def __init__(self, folder: str | Path, max_bytes: int | None = None, allow_pipe: bool = False) -> None:
        self.folder = Path(folder).expanduser()
        self.max_bytes = max_bytes
        self.allow_pipe = allow_pipe
        self._ahead: ThreadPoolExecutor | None = None
        # Announced lately: neighbouring batches announce the same shards.
        self._asked: deque[str] = deque(maxlen=1000)

    def locate(self, shard: str) -> str:
        """Return the path of a shard on this machine, fetching it when it is not there yet.

        Raises:
            ConfigError: its address is malformed, or nothing installed reads it.
            DataError: it cannot be fetched or kept.
        """
        path = local_path(shard)
        if path is not None:
            return path
        target = self.copy_of(shard)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if _is_copy(target):
                # The time of reading marks it as used; that of writing stays, since an index goes by it.
                os.utime(target, ns=(time.time_ns(), target.stat().st_mtime_ns))
                return str(target)
            self._fetch_once(shard, target)
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"--shard-cache {printable(self.folder)} cannot be used: {reason}") from None
        return str(target)

    def fetch_ahead(self, shards: Sequence[str]) -> None:
        """Fetch shards in the background, one after the other; what fails is tried again when it is read."""
        if self._ahead is None:
            self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch-shards")
        for shard in shards:
            if shard not in self._asked:
                self._asked.append(shard)
                self._ahead.submit(self._fetch_quietly, shard)

    def wait(self) -> None:
        """Wait for what is fetched in the background."""
        if self._ahead is not None:
            self._ahead.shutdown(wait=True)
            self._ahead = None

    def _fetch_quietly(self, shard: str) -> None:
        try:
            self.locate(shard)
        except DataError as error:
            _LOG.warning("%s", error)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_ahead": None}

    def copy_of(self, shard: str) -> Path:
        """Return where a shard's copy is or would be; shards of one name in different places do not meet."""
        name = Path(unquote(shard.partition("?")[0].partition("#")[0])).name or "shard"
        name = _ODD.sub("_", name)[-_MAX_NAME:]
        return self.folder / f"{hashlib.sha256(os.fsencode(shard)).hexdigest()[:12]}-{name}"

    def _fetch_once(self, shard: str, target: Path) -> None:
        from filelock import FileLock

        with FileLock(self.folder / f".{target.name}.lock"):
            if not _is_copy(target):
                # Nobody else fetches it now: what lies half-written was left by a killed process.
                for left in self.folder.glob(f"{TEMPORARY}{target.name}-*"):
                    left.unlink(missing_ok=True)
                self._fetch(shard, target)
        self._drop_oldest(keep=target)

    def _fetch(self, shard: str, target: Path) -> None:
        for attempt in range(_NUM_TRIES):
            try:
                with open_shard(shard, self.allow_pipe) as source, new_file(target) as copy:
                    shutil.copyfileobj(source, copy, _BLOCK_BYTES)
                return
            except OpenClipError:
                raise
            # Every file system raises errors of its own kind; each is tried again, since most pass.
            except Exception as error:
                reason = one_line(error)
                if attempt == _NUM_TRIES - 1 or isinstance(error, FileNotFoundError):
                    raise DataError(f"shard {printable(shard)} cannot be fetched: {reason}") from error
                _LOG.warning("fetching %s again after: %s", printable(shard), reason)
                time.sleep(_PAUSE_S * 2**attempt)

    def _drop_oldest(self, keep: Path) -> None:
        """Delete the copies that were not used for longest until the rest fits."""
        if self.max_bytes is None:
            return
        copies = []
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                if not path.name.startswith(".") and _is_copy(path):
                    status = path.stat()
                    copies.append((status.st_atime_ns, status.st_size, path))
        total = sum(size for _, size, _ in copies)
        for _, size, path in sorted(copies):
            if total <= self.max_bytes:
                return
            if path != keep:
                with contextlib.suppress(OSError):
                    path.unlink()
                total -= size


def _is_copy(path: Path) -> bool:
    """Tell whether a whole copy stands under a name; a link of that name is somebody else's and leads anywhere."""
    return path.is_file() and not path.is_symlink()
