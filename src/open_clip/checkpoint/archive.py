"""Reading the tensors of a TorchScript archive without running it. What the archive's code says is never looked at.

OpenAI published CLIP as such archives: a zip with ``data.pkl`` (the tree of modules), a file per storage, and code.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from open_clip.checkpoint.pickled_values import PickledObject
from open_clip.checkpoint.pickles import MOST_BYTES
from open_clip.checkpoint.torch_files import read_zip
from open_clip.errors import CheckpointError

_MAX_DEPTH = 64
_OPENAI_MARK = b"input_resolution"
# Modules that hold each other twice unfold to any number of names; the largest published model has 1,500.
_MAX_ENTRIES = 100_000


def find_data_root(archive: zipfile.ZipFile, member: str = "data.pkl") -> str | None:
    """Find the folder of a torch zip file that has ``member``; None when there is none."""
    for name in archive.namelist():
        folder, _, base = name.rpartition("/")
        if base == member and folder and "/" not in folder:
            return folder
    return None


def is_openai_archive(path: str | Path) -> bool:
    """Tell whether a file is one of OpenAI's TorchScript archives, which hold the image's size; no tensor is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            root = find_data_root(archive, member="constants.pkl")
            if root is None or archive.getinfo(f"{root}/data.pkl").file_size > MOST_BYTES:
                return False
            return _OPENAI_MARK in archive.read(f"{root}/data.pkl")
    except Exception:
        # zipfile answers damage with half a dozen kinds of errors; whoever reads the file names them.
        return False


def read_script_archive(archive: zipfile.ZipFile, root: str) -> dict[str, Tensor]:
    """Read every tensor a TorchScript archive's modules hold, named by its path in the tree of modules.

    Raises:
        CheckpointError: the data asks for anything but tensors, containers and modules, or is damaged.
    """
    tree = read_zip(archive, root, records=("__torch__.",))
    tensors: dict[str, Tensor] = {}
    for seen, (name, value) in enumerate(_walk(tree, "", 0)):
        if seen == _MAX_ENTRIES:
            raise CheckpointError("its modules hold each other again and again. Fetch the file again.")
        if isinstance(value, Tensor):
            tensors[name] = value
    return tensors


def _walk(node: object, prefix: str, depth: int) -> Iterator[tuple[str, object]]:
    if depth > _MAX_DEPTH:
        raise CheckpointError("its modules are nested without end. Fetch the file again.")
    attributes = node.state if isinstance(node, PickledObject) else None
    for name, value in attributes.items() if isinstance(attributes, dict) else ():
        yield f"{prefix}{name}", value
        yield from _walk(value, f"{prefix}{name}.", depth + 1)
