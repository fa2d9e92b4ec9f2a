"""Writing weights as safetensors, whole or not at all. Training checkpoints are the trainer's job."""

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from open_clip.errors import CheckpointError, printable


def write_safetensors(state_dict: dict[str, Tensor], path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Write weights, and text entries beside them, to ``path``; a crash or a full disk leaves what was there before.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    path = Path(path)
    # safetensors refuses tensors that share memory; a reader gets a copy of each anyway.
    plain = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state_dict.items()
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain, temporary, metadata={"format": "pt"} | (metadata or {}))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{printable(path)}: cannot be written ({error}). Free space or choose another folder."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
