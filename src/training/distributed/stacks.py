"""Write what all threads of this process are doing into the run folder; ends nothing."""

import contextlib
import datetime
import faulthandler
import os
import socket
from pathlib import Path

from open_clip.files import make_folder, open_to_append


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
        make_folder(folder)
        now = datetime.datetime.now().isoformat(" ", "seconds")
        with open_to_append(path) as file:
            heading = f"{now} rank {rank} on {socket.gethostname()}, process {os.getpid()}: {reason}\n"
            file.write(heading.encode("utf-8", "backslashreplace"))
            faulthandler.dump_traceback(file, all_threads=True)
            file.write(b"\n")
        if trace is not None:
            # Nothing here waits for the disk: it may be what the run hangs on.
            record = folder / f"collectives-{rank}.json"
            record.unlink(missing_ok=True)
            with open_to_append(record) as file:
                file.write(trace.encode("utf-8", "backslashreplace"))
        return path
    return None
