"""Bad rows: how one is described, listed in the run folder and held against a budget.

Nothing here finds a fault; the readers and the decoder do.
"""

import contextlib
import fcntl
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from open_clip.checked_json import read_json_lines
from open_clip.errors import DataError, printable
from open_clip.files import open_to_append
from open_clip.redaction import redact

_LOGGER = logging.getLogger(__name__)
_NUM_SHOWN = 3


class Fault(NamedTuple):
    """One row that cannot be used: the file that lists it, its row there, its image and a one-line reason."""

    source: str
    row: int
    path: str
    reason: str

    def shown(self) -> dict[str, object]:
        """Give the fields as the run folder lists them: addresses without their secrets."""
        return {name: redact(one) if isinstance(one, str) else one for name, one in self._asdict().items()}

    def __str__(self) -> str:
        # A row of data without images has no path.
        where = " ".join(filter(None, (f"{self.source}:{self.row}", self.path)))
        return printable(f"{where}: {self.reason}")


def one_line(error: BaseException) -> str:
    """Write an error of any library as the reason of a fault: its text in one line, and its kind."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(f"{' '.join(text.split())[:200]} ({type(error).__name__})")


class Quarantine:
    """The bad rows of one run: each listed once in a file, whichever process met it, all counted against a budget.

    Args:
        path: ``bad_samples.jsonl`` of the run folder, or None to count without a file.
        num_samples: rows of the data set, refused ones included.
        budget: share of the rows that may be bad.
    """

    def __init__(self, path: str | Path | None, num_samples: int, budget: float = 0.01) -> None:
        self.path = Path(path) if path is not None else None
        self.num_samples = num_samples
        self.budget = budget
        self._seen: set[tuple[str, int]] = set()
        self._shown: list[str] = []
        self._line_end = ""
        self._listed: set[tuple[str, int]] = set()
        self._read_to = 0
        self._read_listed()
        self._before: int | None = None
        self._met: set[tuple[str, int]] = set()

    def start_counting(self) -> None:
        """Count the rows met from here on anew, for :attr:`num_met`; rows refused before the first call stay apart."""
        if self._before is None:
            self._before = self.count
        self._met = set()

    @property
    def num_met(self) -> int:
        """Number of different bad rows this process met since :meth:`start_counting`."""
        return len(self._met)

    def check(self, num_met: int) -> None:
        """Hold the rows that all processes met, and those refused before, against the budget.

        Raises:
            DataError: more rows than the budget allows are bad.
        """
        count = (self._before or 0) + num_met
        if count > self.budget * self.num_samples:
            raise DataError(self._over_budget(count))

    @property
    def count(self) -> int:
        """Number of different bad rows met by this run."""
        return len(self._seen)

    def record(self, faults: Iterable[Fault], *, enforce: bool = True) -> int:
        """List and count the rows that are new.

        Args:
            faults: bad rows, new or not.
            enforce: hold this process's count against the budget; else :meth:`check` has the last word.

        Returns:
            How many of them were new.

        Raises:
            DataError: more rows than the budget allows are bad.
        """
        new = []
        for fault in faults:
            self._met.add((fault.source, fault.row))
            if (fault.source, fault.row) not in self._seen:
                self._seen.add((fault.source, fault.row))
                new.append(fault)
        if not new:
            return 0
        self._list(new)
        self._shown.extend(str(fault) for fault in new[: _NUM_SHOWN - len(self._shown)])
        if enforce and self.count > self.budget * self.num_samples:
            raise DataError(self._over_budget(self.count))
        return len(new)

    def _over_budget(self, count: int) -> str:
        more = count - len(self._shown)
        examples = "\n  ".join(self._shown) + (f"\n  and {more} more" if more > 0 else "")
        listed = f" All of them: {self.path}." if self.path is not None else ""
        return (
            f"{count} of {self.num_samples} rows are bad, more than the {self.budget:.2%} allowed:\n  {examples}\n"
            f"Mend the data, or allow more with --bad-sample-budget SHARE (now {self.budget:g}).{listed}"
        )

    def _list(self, faults: list[Fault]) -> None:
        """Append those that nobody has listed."""
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open_to_append(self.path) as file:
                # Processes that meet one row at one time take turns, and the second finds it listed. Not all file
                # systems lock; there a row may stand twice, but one appending write is never cut by another.
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX)
                self._read_listed()
                new = [fault for fault in faults if (redact(fault.source), fault.row) not in self._listed]
                lines = "".join(json.dumps(fault.shown()) + "\n" for fault in new)
                if lines:
                    file.write((self._line_end + lines).encode("ascii"))
                    self._line_end = ""
        except OSError as error:
            _LOGGER.warning("Cannot list %d bad rows in %s: %s", len(faults), self.path, error)

    def _read_listed(self) -> None:
        """Read which rows an earlier part of this run, or another process, has listed since the last look.

        A line cut short by a kill is passed over.
        """
        with contextlib.suppress(OSError):
            if self.path is None or (size := self.path.stat().st_size) <= self._read_to:
                return
            last = b"\n"
            for last, entry in read_json_lines(self.path, self._read_to):  # noqa: B007
                row = None if entry is None else entry.get("row")
                if entry is not None and isinstance(row, int):
                    self._listed.add((str(entry.get("source")), row))
            self._line_end = "" if last.endswith(b"\n") else "\n"
            self._read_to = size
