"""What a weights file says beside its tensors, which are ``read.py``'s job: the text entries of safetensors."""

from pathlib import Path

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
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{printable(path)}: is not a whole safetensors file ({first_line(error)}). Fetch or write it again."
        ) from error
