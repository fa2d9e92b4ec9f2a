"""The log file of a wrapper: what it held stays until training begins, and no two wrappers write one."""

import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from open_clip.errors import ConfigError
from open_clip.files import open_to_append


class RunLog:
    """A log file that is written without buffer.

    A start that fails must not cost the log of the run before. Until training begins an old log stays where it is, and
    this run's words go to ``NAME.start.log`` beside it.

    Args:
        append: continue the old log instead.

    Attributes:
        final: the log's own name.
        path: where the words go.
        file: the open file.

    Raises:
        ConfigError: Another process writes the log.
        OSError: It cannot be written.
    """

    def __init__(self, path: Path, *, append: bool) -> None:
        self.final = path
        self.path = path
        self.file = _open_alone(path)
        self._is_full = False
        # Held while this run lasts, so that others find the name taken, whichever file has it.
        self._held: BinaryIO | None = None
        if not append and os.fstat(self.file.fileno()).st_size:
            self.path = path.with_name(f"{path.stem}.start{path.suffix}")
            self.path.unlink(missing_ok=True)
            self._held, self.file = self.file, _open_alone(self.path)
        elif append and _ends_inside_a_line(path):  # the disk was full then
            self.file.write(b"\n")

    def begin(self) -> None:
        """Hear that training begins: from now on this is the log."""
        if self.path != self.final:
            self.path.replace(self.final)
            self.path = self.final

    def write_line(self, line: bytes) -> None:
        """Append one line; a full disk ends the log, not the run."""
        if self._is_full:
            return
        try:
            self.file.write(line + b"\n")
        except OSError as error:
            self._is_full = True
            print(f"[Warning] {self.path}: {error.strerror}; the log ends here, training goes on.", file=sys.stderr)

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        if self._held is not None:
            self._held.close()


class Start:
    """Waits for the trainer's word that training begins: until then everything of the run before stays.

    Args:
        note: file that the trainer writes.
        begin: called once training begins; not for a run that has nothing left to do.

    Attributes:
        run_dir: the run folder, where the trainer got so far.
    """

    def __init__(self, note: Path, begin: Callable[[], None]) -> None:
        self.run_dir: Path | None = None
        self._note = note
        self._begin = begin
        self._is_told = False

    def look(self) -> None:
        """Read the note once it is there."""
        if self._is_told:
            return
        with contextlib.suppress(OSError, ValueError):  # there is none yet, or half of it
            said = json.loads(self._note.read_text(encoding="utf-8"))
            self._is_told = True
            self.run_dir = None if said["run"] is None else Path(said["run"])
            if said["trains"]:
                self._begin()


def _open_alone(path: Path) -> BinaryIO:
    file = open_to_append(path)
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            file.close()
            raise ConfigError(
                f"{path}: another run is writing this log. Wait for its end, or give another --output_dir."
            ) from None
        # A file system without locks: nothing can be told.
    return file


def _ends_inside_a_line(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"
    return False
