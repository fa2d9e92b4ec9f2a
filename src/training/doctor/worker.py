"""The process that holds the device while a report is made, and the other end of it.

A part that crashes or hangs takes this process with it and nothing else: the next part gets a new one. Lines of JSON
travel both ways; whatever libraries print goes to the standard error.
"""

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TextIO

from open_clip.errors import first_line, printable
from training.doctor.findings import Answer, Finding
from training.doctor.parts import Conditions, Part
from training.doctor.processes import end_program, last_words, name_status, read_end, start_program

_MOST_NOTES = 8


class PartFailed(Exception):
    """A part ended before its time; the message says how."""


class Worker:
    """Runs parts in another process, started when it is needed and replaced after a part that failed."""

    def __init__(self) -> None:
        self._process: Any = None
        self._said: Any = None
        self._buffer = b""
        self.notes: list[str] = []

    def run(self, part: Part, conditions: Conditions, limit_s: float) -> Iterator[Finding]:
        """Give the findings of a part as they come; what libraries warned of is in ``notes`` afterwards.

        Raises:
            PartFailed: It raised, crashed or had not ended after ``limit_s``.
        """
        self.notes = []
        ends = time.monotonic() + limit_s
        if self._process is None:
            self._start()
        asked = {"part": part.name, "conditions": asdict(conditions), "limit_s": limit_s}
        try:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._give_up(f"its process is gone ({error})") from None
        while True:
            answer = self._read(ends, limit_s)
            if "finding" in answer:
                yield Finding(**answer["finding"])
                continue
            self.notes = answer["notes"]
            if answer["error"] is None:
                return
            # A device that has failed once often fails from then on: the next part gets a new process.
            raise self._give_up(answer["error"])

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            end_program(self._process)
            self._process.stdin.close()
            self._process.stdout.close()
            self._said.close()
            self._process = None

    def _start(self) -> None:
        self._buffer = b""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = start_program(
            ["-m", "training.doctor.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
        )

    def _read(self, ends: float, limit_s: float) -> Answer:
        """Wait for the next line."""
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([pipe], [], [], max(0.0, ends - time.monotonic()))
            if not ready:
                raise self._give_up(f"it had not ended after {limit_s:.0f} s")
            chunk = os.read(pipe, 1 << 16)
            if not chunk:
                status = self._process.wait()
                raise self._give_up(f"its process {name_status(status)}{last_words(read_end(self._said))}")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: Answer = json.loads(line)
        return answer

    def _give_up(self, reason: str) -> PartFailed:
        self.close()
        return PartFailed(reason)


class _Notes(logging.Handler):
    """Keeps the first warnings of a part, each once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning's first line; Python's own begin with the place they come from."""
        text = printable(record.getMessage().strip().partition("\n")[0], 240)
        if text not in self.kept and len(self.kept) < _MOST_NOTES:
            self.kept.append(text)


def serve(questions: TextIO, answers: TextIO) -> None:
    """Run the parts that are asked for until the other end closes."""
    from training.device.startup import import_torch
    from training.doctor.parts import PARTS

    import_torch()
    notes = _Notes()
    logging.captureWarnings(True)
    logging.getLogger().addHandler(notes)
    by_name = {part.name: part for part in PARTS}

    def answer(**fields: object) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    for line in questions:
        asked = json.loads(line)
        notes.kept, error = [], None
        try:
            for finding in by_name[asked["part"]].run(Conditions(**asked["conditions"]), asked["limit_s"]):
                answer(finding=finding.to_json())
        # The report says what a part met and goes on with the next.
        except Exception as raised:
            error = f"{type(raised).__name__}: {first_line(raised)}"
        answer(error=error, notes=notes.kept)


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # The other end is gone: there is nobody to tell.
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin, channel)
