"""Two processes, one a side, that do the same work in turn: A B B A. Knows no row."""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.settings import SIDES, Settings, Side, Values

ROOT = Path(__file__).resolve().parents[1]


class SideError(RuntimeError):
    """The process of a side could not do what it was asked for."""


class SideTimeout(SideError):
    """A side did not answer in the time it was given."""


class SideProcess:
    """One side's process; its library is the first on its path."""

    def __init__(self, side: Side, library: Path, threads: int) -> None:
        self.side = side
        self._ends: float | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side"],
            cwd=ROOT,
            env=_environment(library, threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def send(self, do: str, **rest: object) -> None:
        """Ask for something without waiting for it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **rest}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SideError(self._last_words("ended early")) from None

    def give_time(self, seconds: float) -> None:
        """From now on, wait for answers so long altogether."""
        self._ends = time.monotonic() + seconds

    def receive(self) -> Values:
        """Wait for the answer to what was asked for.

        Raises:
            SideTimeout: It took longer than the time that was given; the process is of no use then.
            SideError: It failed; with what the process said last.
        """
        assert self._process.stdout is not None
        if self._ends is not None:
            left = max(0.0, self._ends - time.monotonic())
            # One line at a time is asked for and read, so nothing waits in the buffer of the pipe's reader.
            if not select.select([self._process.stdout], [], [], left)[0]:
                self._process.kill()
                raise SideTimeout(f"{self.side}: the row was given up, it took longer than its time")
        line = self._process.stdout.readline()
        if not line:
            raise SideError(self._last_words(f"ended with status {self._process.wait()}"))
        answer: Values = json.loads(line)
        if "error" in answer:
            raise SideError(f"{self.side}: {answer['error'].strip()}")
        return answer

    def ask(self, do: str, **rest: object) -> Values:
        """Ask for something and wait for the answer."""
        self.send(do, **rest)
        return self.receive()

    def stop(self, wait_s: float = 10.0) -> None:
        """Let the process end, or end it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def _last_words(self, what: str) -> str:
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip()
        return f"{self.side}: the process {what}.\n{said[-3000:]}"


def _environment(library: Path, threads: int) -> dict[str, str]:
    """Return the variables of a side: its library first, no spinning threads, no network."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONSTARTUP")}
    # Folders of libraries that a bare machine lacks come after the side's own.
    extra = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and _holds_no_side(path)]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(library.resolve()), str(ROOT), *extra]),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _holds_no_side(path: str) -> bool:
    return not (Path(path) / "open_clip").exists()


@contextlib.contextmanager
def start_sides(libraries: Mapping[Side, Path], threads: int) -> Iterator[dict[Side, SideProcess]]:
    """Start the processes of the sides that have a library and stop them in the end."""
    sides: dict[Side, SideProcess] = {}
    try:
        for side, library in libraries.items():
            sides[side] = SideProcess(side, library, threads)
        yield sides
    finally:
        for process in sides.values():
            process.stop()


def ask_all(sides: Mapping[Side, SideProcess], do: str, **rest: object) -> dict[Side, Values]:
    """Ask all sides for the same at the same time; for what is not timed."""
    for process in sides.values():
        process.send(do, side=process.side, **rest)
    return {side: process.receive() for side, process in sides.items()}


def prepare_all(sides: Mapping[Side, SideProcess], row: str, settings: Settings) -> dict[Side, Values]:
    """Make a row on all sides."""
    return ask_all(sides, "prepare", row=row, settings=settings.as_dict())


def alternate(sides: Mapping[Side, SideProcess], number: int) -> dict[Side, Values]:
    """Do one timed round on each side, one after the other; who is first changes from round to round."""
    order = [side for side in SIDES if side in sides]
    if number % 2:
        order.reverse()
    return {side: sides[side].ask("round", number=number) for side in order}
