"""Tell who started the processes what only these know: the first failing status, and the run once training begins."""

import contextlib
import json
import os
import time
from pathlib import Path

from training.early_signals import STATUS_FILE

_RUN_FILE = "OPEN_CLIP_RUN_FILE"


def leave_status(status: int) -> None:
    """Write a status other than 0 where the wrapper scripts look for it: torchrun itself always returns 1."""
    path = os.environ.get(STATUS_FILE)
    if not path or status == 0:
        return
    # "x": the first writer wins, since its fellows fail of it. A full disk must not change the status that is returned.
    with contextlib.suppress(OSError), open(path, "x", encoding="utf-8") as file:
        file.write(f"{status}\n")


def leave_words(text: str) -> None:
    """Have torchrun end what it prints of a failed process with the process's own words, which its table would bury.

    Source: the form of torch 2.14's ``distributed/elastic/multiprocessing/errors``.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path:
        return
    details = {"py_callstack": text, "timestamp": str(int(time.time()))}
    with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as file:
        json.dump({"message": {"message": text, "extraInfo": details}}, file)


def forget_status() -> None:
    """Take back what a process of torchrun's attempt before this one wrote."""
    path = os.environ.get(STATUS_FILE)
    if path and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        with contextlib.suppress(OSError):
            os.unlink(path)


def leave_run(root: Path | None, *, trains: bool) -> None:
    """Write where the run is, once every input was checked and training begins or turns out to be done already."""
    path = os.environ.get(_RUN_FILE)
    if not path:
        return
    with contextlib.suppress(OSError), open(path, "x", encoding="utf-8") as file:
        file.write(json.dumps({"run": None if root is None else str(root), "trains": trains}) + "\n")
