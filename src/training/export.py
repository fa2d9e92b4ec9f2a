"""Turn a checkpoint into what others read: one file in upstream's layout, or a folder that holds a model.

``python -m training.export FOLDER [FILE]`` and ``python -m training.export CHECKPOINT --model-folder FOLDER``.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from open_clip.errors import CheckpointError, ConfigError, OpenClipError
from open_clip.files import write_whole
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
    from training.checkpoint.sharded_read import read_whole

    notes = read_folder(folder)
    del notes[FOLDER]
    write_checkpoint(read_whole(folder, notes), path)
    return path


def export_model(checkpoint: Path, folder: Path, averaged: bool = False) -> None:
    """Write the model of a checkpoint, whatever recipe trained it, into a folder that ``local-dir:`` and the hub take.

    Args:
        checkpoint: A file, or a folder of shards.
        folder: Made here; refused when it is there already.
        averaged: Write the averaged weights.

    Raises:
        ConfigError: When the folder is there already.
        CheckpointError: When the checkpoint is damaged, says not what model it holds, or the folder cannot be written.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already; name another folder or delete it.")
    from open_clip.checkpoint import CONFIG_ENTRY, read_checkpoint, read_state_dict, write_safetensors
    from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME
    from open_clip.factory.description import read_description

    if checkpoint.is_dir():
        with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
            export_model(export(checkpoint, Path(draft) / "whole.pt"), folder, averaged)
        return
    text = read_checkpoint(checkpoint).get(CONFIG_ENTRY)
    if text is None:
        raise CheckpointError(
            f"{checkpoint}: it does not say which model it holds, as files of other programs do not. Load it with "
            "open_clip.create_model(NAME, pretrained=FILE)."
        )
    told = read_description(text, str(checkpoint))
    config = {"model_cfg": told.model_cfg, "preprocess_cfg": told.preprocess_cfg}
    try:
        folder.mkdir(parents=True)
        write_safetensors(read_state_dict(checkpoint, averaged), folder / HF_SAFE_WEIGHTS_NAME, {CONFIG_ENTRY: text})
        write_whole(folder / HF_CONFIG_NAME, json.dumps(config, indent=2) + "\n")
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error}). Free space or choose another folder.") from error


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 done, 2 wrong names, 4 a damaged checkpoint."""
    setup_logging(None)
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("folder", type=Path, help="checkpoint, such as logs/RUN/checkpoints/epoch_3")
    parser.add_argument("file", type=Path, nargs="?", help="file to write (default: FOLDER.pt)")
    parser.add_argument("--model-folder", type=Path, help="write the model alone, as a folder that local-dir: takes")
    parser.add_argument("--averaged", action="store_true", help="with --model-folder: the averaged weights")
    names = parser.parse_args(words)
    if names.file is not None and names.model_folder is not None:
        parser.error("give FILE or --model-folder, not both")
    try:
        if names.model_folder is not None:
            export_model(names.folder, names.model_folder, names.averaged)
            _LOG.info("wrote %s", names.model_folder)
        else:
            _LOG.info("wrote %s", export(names.folder, names.file))
    except OpenClipError as error:
        _LOG.error("%s", error)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
