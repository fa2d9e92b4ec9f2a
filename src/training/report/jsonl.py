"""The run's ``metrics.jsonl``: one JSON object a line, appended and flushed. Knows no meaning beyond kind and step."""

import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from open_clip.checked_json import is_number, read_json_lines
from open_clip.files import new_file, open_plain, open_to_append, open_to_change, write_whole
from open_clip.redaction import redact

logger = logging.getLogger(__name__)

# What a line holds, by whoever wrote it.
Record = dict[str, object]


class MetricsWriter:
    """Appends records to a metrics file; a full disk costs lines and one warning, never the run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: IO[bytes] | None = None
        self._is_torn = False
        self._has_complained = False

    def write(self, kind: str, **fields: object) -> None:
        """Append one record with its kind and the time; numbers that are not finite become null."""
        line = json.dumps(finite_json({"kind": kind, "time": round(time.time(), 3), **fields}), ensure_ascii=False)
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write((b"\n" if self._is_torn else b"") + line.encode("utf-8", "backslashreplace") + b"\n")
            self._is_torn = False
        except OSError as error:
            # A short write may have left half a line: the next one starts with a line break.
            self._is_torn = True
            if not self._has_complained:
                logger.warning("Cannot write %s: %s. The run goes on; lines are lost until it works.", self.path, error)
            self._has_complained = True

    def event(self, event: str, step: int, **detail: object) -> None:
        """Append an event record: a checkpoint, a resume, a bad sample, a stop."""
        self.write("event", event=event, step=step, detail=detail)

    def truncate_after(self, step: int) -> int:
        """Drop what was recorded past a step, before a resumed run records it again.

        Train, eval, summary and event lines go when their step is greater; an event without a step shares the step of
        the line before it. Run lines stay: they are the history of the run. A torn last line goes too. The file is
        replaced whole or not at all, on a full disk shortened in place, and left as it is where neither works.

        Returns:
            How many lines were dropped.
        """
        self.close()
        try:
            num_kept, num_lines = sum(1 for _ in self._kept(step)), sum(1 for _ in read_json_lines(self.path))
            if num_kept < num_lines or _is_torn(self.path):
                self._shorten(step)
        except FileNotFoundError:
            return 0
        except OSError as error:
            logger.warning("Cannot shorten %s: %s. Some steps stand in it twice.", self.path, error)
            return 0
        return num_lines - num_kept

    def _kept(self, step: int) -> Iterator[bytes]:
        """Yield the lines that stay."""
        last_step = 0
        for raw, record in read_json_lines(self.path):
            if record is None:
                continue
            own_step = _step_of(record)
            last_step = last_step if own_step is None else own_step
            if record.get("kind") == "run" or last_step <= step:
                yield raw.rstrip(b"\n") + b"\n"

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _shorten(self, step: int) -> None:
        try:
            with new_file(self.path) as file:
                file.writelines(self._kept(step))
        except OSError:
            # What is kept is shorter than what is there and written behind the place of reading: it needs no room.
            with open_to_change(self.path) as file:
                file.writelines(self._kept(step))
                file.truncate()

    def _open(self) -> IO[bytes]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a killed process loses no line, and a failed write leaves nothing behind to fail again.
        file = open_to_append(self.path)
        self._is_torn = _is_torn(self.path)
        return file


def add_result(path: Path, record: Mapping[str, object], *, replaces: bool) -> None:
    """Append an evaluation to a file of them; a full disk costs the line, never the run.

    Args:
        path: The file, one JSON object a line.
        record: The metrics; ``epoch`` among them, the completed ones, and ``step`` where it is inside the next one.
        replaces: Drop what the file has of this point and of later ones: the run takes them again.
    """

    def when(one: Mapping[str, object]) -> tuple[float, float] | None:
        epoch, step = one.get("epoch", 0), one.get("step", 0)
        return (epoch, step) if is_number(epoch) and is_number(step) else None

    line = json.dumps(finite_json(record)).encode() + b"\n"
    try:
        lines = list(read_json_lines(path)) if os.path.lexists(path) else []
        now = when(record) or (0, 0)
        kept = [raw for raw, one in lines if one is not None and (when(one) or now) < now]
        if replaces and len(kept) < len(lines):
            write_whole(path, b"".join([*kept, line]))
            return
        with open_to_append(path) as file:
            file.write((b"\n" if _is_torn(path) else b"") + line)
    except OSError as error:
        # metrics.jsonl has the figures too.
        logger.error("could not append to %s: %s. The run goes on.", path.name, error.strerror or error)


def iterate_metrics(path: str | Path, kind: str | None = None) -> Iterator[Record]:
    """Yield the records of a metrics file one by one, all or of one kind; a file that cannot be read holds none.

    Lines that are no JSON object are counted and left out.
    """
    num_torn = 0
    try:
        for _, record in read_json_lines(path):
            if record is None:
                num_torn += 1
            elif kind in (None, record.get("kind")):
                yield record
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("%s is not read: %s", path, error.strerror or error)
    if num_torn:
        logger.warning("%s: left out %d torn line(s), as a kill or a full disk leaves them", path, num_torn)


def _is_torn(path: Path) -> bool:
    """Tell whether a file's last line has no end."""
    with open_plain(path) as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _step_of(record: Record) -> int | None:
    detail = record.get("detail")
    for holder in (record, detail if isinstance(detail, dict) else {}):
        for name in ("step", "steps"):
            step = holder.get(name)
            if isinstance(step, int):
                return step
    return None


def finite_json(value: object) -> object:
    """Turn what trainers pass (tensors of one element, numpy scalars, paths) into plain JSON; secrets are left out."""
    if isinstance(value, dict):
        return {str(key): finite_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [finite_json(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int):
        return value
    return finite_json(value.item()) if hasattr(value, "item") else redact(str(value))
