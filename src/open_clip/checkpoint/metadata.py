"""What a weights file says beside its tensors, which are ``read.py``'s job: the text entries of safetensors."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from open_clip.checkpoint.heads import is_safetensors, read_head
from open_clip.errors import CheckpointError, first_line, printable

#: The entry of a checkpoint, and of the metadata of safetensors, that says which model the weights are of.
CONFIG_ENTRY = "open_clip_config"


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the metadata of a safetensors file; other files have none.

    Raises:
        CheckpointError: the file is damaged or cannot be read.
    """
    path = Path(path)
    if not is_safetensors(path, read_head(path)):
        return {}
    with open_safetensors(path) as file:
        return dict(file.metadata() or {})


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file of which no tensor has been read.

    Raises:
        CheckpointError: the file is damaged or cannot be read, now or while it is open.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{printable(path)}: is not a whole safetensors file ({first_line(error)}). Fetch or write it again."
        ) from error
