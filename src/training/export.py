"""Turn a checkpoint folder into one file in upstream's layout: ``python -m training.export FOLDER [FILE]``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from open_clip.errors import ConfigError, OpenClipError
from training.report.console import setup_logging

_LOG = logging.getLogger(__name__)


def export(folder: Path, path: Path | None = None) -> Path:
    """Write one file of a folder of shards, once every byte of it is verified; needs memory for the whole state.

    Args:
        folder: A checkpoint folder, such as ``checkpoints/epoch_3``.
        path: The file; the folder's name with ``.pt`` beside it when None.

    Returns:
        The file.

    Raises:
        ConfigError: When the folder is none, or the file is there already.
        CheckpointError: When the folder is damaged or the file cannot be written.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder. Name a checkpoint folder, such as logs/RUN/checkpoints/epoch_3.")
    path = path or folder.with_name(f"{folder.name}.pt")
    if path.exists():
        raise ConfigError(f"{path} is there already; name another file or delete it.")
    # Slow to import, and of no use before the names are right.
    from training.checkpoint import write_checkpoint
    from training.checkpoint.folders import FOLDER, read_folder
    from training.checkpoint.sharded import read_whole

    notes = read_folder(folder)
    del notes[FOLDER]
    write_checkpoint(read_whole(folder, notes), path)
    return path


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 done, 2 wrong names, 4 a damaged checkpoint."""
    setup_logging(None)
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("folder", type=Path, help="checkpoint folder, such as logs/RUN/checkpoints/epoch_3")
    parser.add_argument("file", type=Path, nargs="?", help="file to write (default: FOLDER.pt)")
    names = parser.parse_args(words)
    try:
        _LOG.info("wrote %s", export(names.folder, names.file))
    except OpenClipError as error:
        _LOG.error("%s", error)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
