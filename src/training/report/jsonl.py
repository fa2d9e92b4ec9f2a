"""The run's ``metrics.jsonl``: one JSON object a line, appended and flushed. Knows no meaning beyond kind and step."""

import json
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

logger = logging.getLogger(__name__)

Record = dict[str, Any]


class MetricsWriter:
    """Appends records to a metrics file; a full disk costs lines and one warning, never the run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: IO[bytes] | None = None
        self._is_torn = False
        self._has_complained = False

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, kind: str, **fields: Any) -> None:
        """Append one record with its kind and the time; numbers that are not finite become null."""
        line = json.dumps({"kind": kind, "time": round(time.time(), 3)} | finite_json(fields), ensure_ascii=False)
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

    def event(self, event: str, step: int, **detail: Any) -> None:
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
        if not self.path.exists():
            return 0
        kept: list[bytes] = []
        num_lines, last_step = 0, 0
        for num_lines, raw in enumerate(self.path.read_bytes().splitlines(), start=1):  # noqa: B007
            record = _parse(raw)
            if record is None:
                continue
            own_step = _step_of(record)
            last_step = last_step if own_step is None else own_step
            if record.get("kind") == "run" or last_step <= step:
                kept.append(raw + b"\n")
        if len(kept) < num_lines or not self.path.read_bytes().endswith(b"\n"):
            self._replace(b"".join(kept))
        return num_lines - len(kept)

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _replace(self, content: bytes) -> None:
        partial = self.path.with_name(self.path.name + ".tmp")
        try:
            try:
                with partial.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(self.path)
            except OSError:
                partial.unlink(missing_ok=True)
                # What is kept is shorter than what is there, so this needs no room.
                with self.path.open("r+b") as file:
                    file.write(content)
                    file.truncate()
        except OSError as error:
            logger.warning("Cannot shorten %s: %s. Some steps stand in it twice.", self.path, error)

    def _open(self) -> IO[bytes]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a killed process loses no line, and a failed write leaves nothing behind to fail again.
        file = self.path.open("ab", buffering=0)
        if file.tell() > 0:
            with self.path.open("rb") as existing:
                existing.seek(-1, os.SEEK_END)
                self._is_torn = existing.read(1) != b"\n"
        return file


def add_result(path: Path, record: Record, *, replaces: bool) -> None:
    """Append an evaluation to a file of them; a full disk costs the line, never the run.

    Args:
        path: The file, one JSON object a line.
        record: The metrics; ``epoch`` among them.
        replaces: Drop what the file has of this epoch and of later ones: the run takes them again.
    """
    line = json.dumps(finite_json(record)).encode() + b"\n"
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        records = [_parse(raw) for raw in lines]
        if replaces and any(one is None or one.get("epoch", 0) >= record["epoch"] for one in records):
            kept = [
                raw for raw, one in zip(lines, records, strict=True) if one and one.get("epoch", 0) < record["epoch"]
            ]
            partial = path.with_name(path.name + ".tmp")
            partial.write_bytes(b"".join([*kept, line]))
            partial.replace(path)
            return
        with path.open("ab") as file:
            file.write(line)
    except OSError as error:
        # metrics.jsonl has the figures too.
        logger.error("could not append to %s: %s. The run goes on.", path.name, error.strerror or error)


def iterate_metrics(path: str | Path) -> Iterator[Record]:
    """Yield the records of a metrics file one by one; lines that are no JSON object are counted and left out."""
    num_torn = 0
    with Path(path).open("rb") as file:
        for raw in file:
            record = _parse(raw)
            if record is not None:
                yield record
            elif raw.strip():
                num_torn += 1
    if num_torn:
        logger.warning("%s: left out %d torn line(s), as a kill or a full disk leaves them", path, num_torn)


def read_metrics(path: str | Path, kind: str | None = None) -> list[Record]:
    """Read the records of a metrics file, all or of one kind; a file that is not there holds none."""
    if not Path(path).exists():
        return []
    return [record for record in iterate_metrics(path) if kind in (None, record.get("kind"))]


def _parse(raw: bytes) -> Record | None:
    try:
        record = json.loads(raw)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _step_of(record: Record) -> int | None:
    detail = record.get("detail")
    for holder in (record, detail if isinstance(detail, dict) else {}):
        for name in ("step", "steps"):
            if isinstance(holder.get(name), int):
                return int(holder[name])
    return None


def finite_json(value: Any) -> Any:
    """Turn what trainers pass (tensors of one element, numpy scalars, paths) into plain JSON types."""
    if isinstance(value, dict):
        return {str(key): finite_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [finite_json(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return finite_json(value.item()) if hasattr(value, "item") else str(value)
