"""Tell who started the processes the status of the first that failed; decides no status and ends no process."""

import contextlib
import os

_STATUS_FILE = "OPEN_CLIP_STATUS_FILE"


def leave_status(status: int) -> None:
    """Write a status other than 0 where the wrapper scripts look for it: torchrun itself always returns 1."""
    path = os.environ.get(_STATUS_FILE)
    if not path or status == 0:
        return
    # "x": the first writer wins, since its fellows fail of it. A full disk must not change the status that is returned.
    with contextlib.suppress(OSError), open(path, "x", encoding="utf-8") as file:
        file.write(f"{status}\n")


def forget_status() -> None:
    """Take back what a process of torchrun's attempt before this one wrote."""
    path = os.environ.get(_STATUS_FILE)
    if path and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        with contextlib.suppress(OSError):
            os.unlink(path)
