"""Write what all threads of this process are doing into the run folder; ends nothing."""

import contextlib
import datetime
import faulthandler
import os
import socket
from pathlib import Path


def write_stacks(folder: Path | None, rank: int, reason: str, trace: str | None = None) -> Path | None:
    """Append the stacks of all threads to ``rank-R.txt``, and a device's record of its collectives beside it.

    Args:
        folder: Where to; None writes nothing.
        rank: Of this process.
        reason: Why, in one line.
        trace: The collective library's own record.

    Returns:
        The file, or None when nothing could be written.
    """
    if folder is None:
        return None
    path = folder / f"rank-{rank}.txt"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now().isoformat(" ", "seconds")
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{now} rank {rank} on {socket.gethostname()}, process {os.getpid()}: {reason}\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
            file.write("\n")
        if trace is not None:
            (folder / f"collectives-{rank}.json").write_text(trace, encoding="utf-8")
        return path
    return None
