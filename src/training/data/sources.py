"""The kinds of data by their words of ``--dataset-type``: one line each. A kind is loaded when it is looked up."""

from importlib import import_module
from typing import Final

from open_clip.errors import ConfigError, printable, suggest_nearest
from training.data.kind import SourceKind, SourceRequest
from training.data.source import Source, refuse_missing
from training.params.by_path import is_by_path, load_by_path

AUTO: Final = "auto"
# `auto` takes the first that claims a path.
_KINDS: Final = {
    "webdataset": "training.data.shards.kind:ShardKind",
    "classes": "training.data.classes:ClassFolderKind",
    "folder": "training.data.folder:FolderKind",
    "synthetic": "training.data.synthetic:SyntheticKind",
    "csv": "training.data.csv:CsvKind",
}


def find_kind(request: SourceRequest) -> SourceKind:
    """Return the kind of data that a request's ``--dataset-type`` names, or that its path shows with ``auto``.

    Raises:
        ConfigError: there is no such kind.
    """
    word = request.data.dataset_type
    if word != AUTO:
        kind = _make(load_by_path(word), word) if is_by_path(word) else _named(word)
        # Made-up rows stand for training data alone: beside them --val-data is told by its path.
        if kind.needs_path or request.role == "train":
            return kind
    return next(kind for kind in map(_named, _KINDS) if kind.claims(request))


def open_source(request: SourceRequest) -> Source:
    """Open the data of a request, whichever kind it is; every process calls it.

    Raises:
        ConfigError: there is no such kind, or a flag is wrong; MissingColumns where the data lacks a column.
        DataError: the data cannot be read, or not one row of it is usable.
    """
    source = find_kind(request).open(request)
    refuse_missing(source.source, request.columns, source.columns)
    return source


def _named(word: str) -> SourceKind:
    home, _, name = _KINDS.get(word, "").partition(":")
    if not name:
        known = [AUTO, *_KINDS]
        raise ConfigError(
            f"--dataset-type {printable(word, 80)!r} is no kind of data.{suggest_nearest(word, known)} There are: "
            f"{', '.join(known)}, and kinds of your own as FILE.py:NAME."
        )
    return _make(getattr(import_module(home), name), word)


def _make(found: object, word: str) -> SourceKind:
    kind = found() if isinstance(found, type) and issubclass(found, SourceKind) else found
    if not isinstance(kind, SourceKind):
        raise ConfigError(f"--dataset-type {printable(word, 200)} is no kind of data: derive it from SourceKind.")
    return kind
