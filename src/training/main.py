"""Train, fine-tune or evaluate: ``python -m training.main --help``. Parses, runs, and maps errors to exit statuses."""

import sys

if __name__ == "__main__" and sys.path[:1] == [__file__.rpartition("/")[0]]:
    # Started as a file: modules beside it (profile.py) would stand for those of Python, and its own package be missing.
    sys.path[0] = __file__.rpartition("/")[0].rpartition("/")[0]

from training.early_signals import answer_early_signals

if __name__ == "__main__":
    answer_early_signals()  # before the imports that take long

import atexit
import logging
import multiprocessing
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from open_clip.errors import ConfigError, OpenClipError
from training.device.startup import import_torch
from training.exit_status import forget_status, leave_status, leave_words
from training.params import check_rules, parse_args
from training.report.console import setup_logging

_LOG = logging.getLogger(__name__)
LATEST_CHECKPOINT_NAME = "epoch_latest.pt"


def main(args: Sequence[str] | None = None) -> int:
    """Run the trainer.

    Args:
        args: Words of the command line; the program's own when None.

    Returns:
        The exit status: 0 done, 2 wrong flags, 3 data, 4 checkpoint, 5 numerics, 6 device, 75 stopped on request and
        resumable.
    """
    setup_logging(None)
    forget_status()
    try:
        words = sys.argv[1:] if args is None else args
        if any(word.startswith("--task") for word in words):
            # The file of a recipe, which says what flags it has, needs torch.
            import_torch()
        namespace = parse_args(args)
        check_rules(namespace)
        import_torch()
        from training.session import run_session

        run_session(namespace)
        status = 0
    except OpenClipError as error:
        message = str(error)
        _LOG.error("%s", message)
        leave_words(message)
        status = error.exit_status
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 2
    except BaseException:
        leave_status(1)
        raise
    leave_status(status)
    return status


def random_seed(seed: int = 42, rank: int = 0) -> None:
    """Seed Python, NumPy and torch with ``seed + rank``, as upstream's function of this name does."""
    import random

    import numpy as np
    import torch

    torch.manual_seed(seed + rank)
    np.random.seed(seed + rank)
    random.seed(seed + rank)


def natural_key(string_: str) -> list[int | str]:
    """Give the key that sorts names with their numbers as numbers, as upstream's function of this name does."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", string_.lower())]


def get_latest_checkpoint(path: str, remote: bool) -> str | None:
    """Return the last ``.pt`` file under a folder by name, numbers as numbers; None when there is none.

    ``--resume latest`` does more: it looks whether a file is whole.

    Raises:
        ConfigError: ``remote`` is set; checkpoints lie on this machine.
    """
    if remote:
        raise ConfigError(f"{path}: checkpoints of other machines are not listed; copy them here first.")
    return max((str(file) for file in Path(path).rglob("*.pt")), key=natural_key, default=None)


def _leave(status: int) -> NoReturn:
    """End the process after its exit handlers but before the interpreter is torn down.

    A thread of torch's that asks for the interpreter during the teardown aborts the process ("terminate called without
    an active exception"), and the launcher would see that instead of the status.
    """
    # A data worker that is still there ignores the signal that the exit handlers send, and they would wait for it.
    for child in multiprocessing.active_children():
        child.kill()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _leave(main())
