"""Data sets by name, as a config file knows them: which tar shards they are, and how many pairs lie in them."""

import json
import logging
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TypedDict

from open_clip.errors import ConfigError, DataError, cut_list, printable, suggest_nearest
from open_clip.files import read_plain

_LOG = logging.getLogger(__name__)
_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>\d+)\.tar")
_MOST_BYTES = 1 << 24


class DatasetMeta(TypedDict):
    """What is known of a data set: its folder below ``data_root``, and its length in pairs; None to count them."""

    length: int | None
    root: str


class Datasets(dict[str, DatasetMeta]):
    """Data sets by name; ``loader.py`` holds them as ``_DATASETS_META``, where new ones are added."""

    def register(self, name: str, root: str, length: int | None = None) -> None:
        """Add a data set from a program, such as a config file.

        Args:
            name: What ``data_name`` calls it.
            root: Its folder of tar shards, below ``data_root`` or absolute.
            length: How many pairs it has; None to count them.

        Raises:
            ConfigError: Another one has that name already.
        """
        known = self.get(name)
        if known is not None and known["root"] != root:
            raise ConfigError(
                f"data set {printable(name, 100)} is there already, in {printable(known['root'])}. Choose another name."
            )
        self[name] = {"length": length, "root": root}

    def find(self, name: str) -> DatasetMeta:
        """Look a data set up.

        Raises:
            ConfigError: There is none of that name, or its entry lacks something; with the nearest names.
        """
        if name not in self:
            raise ConfigError(
                f"there is no data set {printable(repr(name), 100)} in _DATASETS_META (loader.py)."
                f"{suggest_nearest(name, self)} Known: {cut_list(self) or 'none'}."
            )
        found = self[name]
        length = found.get("length")
        if not isinstance(found.get("root"), str) or not (length is None or (type(length) is int and length > 0)):
            raise ConfigError(
                f'data set {printable(name, 100)} in _DATASETS_META: write {{"length": N or None, "root": "folder"}}.'
            )
        return {"length": length, "root": found["root"]}


def list_shards(name: str, root: Path) -> list[Path]:
    """List the tar shards of a data set, by name.

    Raises:
        DataError: The folder is not there or holds none.
    """
    shards = sorted(path for path in root.glob("*.tar") if path.is_file())
    if not shards:
        what = "holds no .tar" if root.is_dir() else "is no folder"
        raise DataError(
            f"data set {printable(name, 100)}: {printable(root, 300)} {what}. Pack it there (tools/pack_wds.py), or "
            "set data_root and its root in _DATASETS_META (loader.py)."
        )
    return shards


def spell_shards(shards: Sequence[Path]) -> str:
    """Spell a list of shards as ``--train-data`` takes it: runs of numbers in braces, sources joined with ``::``."""

    def run_of(item: tuple[int, Path]) -> tuple[object, ...]:
        place, path = item
        found = _NUMBERED.fullmatch(path.name)
        if found is None:
            return (path,)
        # Within a run number and place grow together.
        return (path.parent, found["stem"], len(found["number"]), int(found["number"]) - place)

    spelt = []
    for _, items in groupby(enumerate(shards), run_of):
        run = [path for _, path in items]
        first, last = (_NUMBERED.fullmatch(path.name) for path in (run[0], run[-1]))
        if len(run) == 1 or first is None or last is None:
            spelt += [str(path) for path in run]
        else:
            spelt.append(f"{run[0].parent}/{first['stem']}{{{first['number']}..{last['number']}}}.tar")
    return "::".join(spelt)


def measure_length(shards: Sequence[Path], cache: Path) -> int:
    """Count the pairs of a data set: as ``sizes.json`` or ``__len__`` beside the shards says, else in the shards.

    Args:
        shards: The tar files.
        cache: Folder that keeps counts, so that a shard is walked over once.

    Raises:
        DataError: A shard cannot be read.
    """
    from training.data.shards.index_file import open_index
    from training.data.shards.selector import Selector

    said = _said_sizes(shards)
    return sum(len(open_index(str(path), Selector(), str(cache))) for path in shards) if said is None else said


def _said_sizes(shards: Sequence[Path]) -> int | None:
    folder = shards[0].parent
    try:
        sizes = json.loads(read_plain(folder / "sizes.json", _MOST_BYTES))
        return sum(int(sizes[path.name]) for path in shards)
    except (OSError, ValueError, TypeError, KeyError):
        # Absent, of other shards, or damaged: it is a shortcut only.
        pass
    try:
        return int(read_plain(folder / "__len__", 100))
    except (OSError, ValueError):
        return None


def check_length(name: str, known: int | None, measured: int) -> None:
    """Warn of a length in ``_DATASETS_META`` that is not that of the shards."""
    if known is not None and known != measured:
        _LOG.warning(
            "data set %s: _DATASETS_META says %s pairs, its shards hold %s. The trainer takes what is there; correct "
            "the length in loader.py, or fetch the missing shards.",
            printable(name, 100),
            f"{known:,}",
            f"{measured:,}",
        )
