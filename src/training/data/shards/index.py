"""Where the samples of a shard stand: made by one walk over its headers, kept in a file, made anew when it changed.

An index holds no captions and no pictures.
"""

import contextlib
import hashlib
import json
import logging
import os
import stat
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from open_clip.errors import DataError, printable
from training.data.quarantine import Fault
from training.data.shards.selector import RawSample, Selector, group_members
from training.data.shards.tar import Member, TornTarError, read_members
from training.data.table import ColumnBuilder, TextColumn

_LOG = logging.getLogger(__name__)
_SCHEMA: Final = 3
_FOLDER: Final = ".open_clip_index"
_APART: Final = "its name comes again elsewhere in the shard; members of a sample must be neighbours"


@dataclass(frozen=True)
class ShardIndex:
    """The usable samples of one shard.

    Attributes:
        path: the tar file.
        keys: name of each sample.
        spans: int64 [n, 4], offset and size of the picture, offset and size of the caption.
        rows: int64 [n], number of each sample in the shard, the unusable ones counted.
        faults: samples that cannot be used, and where the shard breaks off.
    """

    path: str
    keys: TextColumn
    spans: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    faults: tuple[Fault, ...]

    def __len__(self) -> int:
        return len(self.spans)


def open_index(path: str, selector: Selector, index_dir: str | None = None) -> ShardIndex:
    """Return the index of a shard, from its file where that still fits, else from the shard.

    Args:
        path: a tar file on this machine.
        selector: which members make a sample.
        index_dir: folder for index files; beside the shards, or the user's cache folder where that cannot be written.

    Raises:
        DataError: the shard cannot be opened, or nothing in it is readable.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"shard {path} cannot be opened: {error.strerror}") from None
    # A fifo would hold the process for ever.
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"shard {path} is no regular file.")
    stamp = json.dumps([_SCHEMA, status.st_size, status.st_mtime_ns, selector.identity])
    places = _places(path, index_dir)
    for place in places:
        index = _load(place, path, stamp)
        if index is not None:
            return index
    index = make_index(path, selector)
    for place in places:
        if _store(index, place, stamp):
            break
    return index


def make_index(path: str, selector: Selector) -> ShardIndex:
    """Walk over a shard.

    Raises:
        DataError: it cannot be opened, or is no tar file at all.
    """
    members: list[Member] = []
    torn: str | None = None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            for member in read_members(descriptor):
                members.append(member)
        finally:
            os.close(descriptor)
    except TornTarError as error:
        torn = str(error)
        if not members:
            raise DataError(f"shard {path} cannot be read: {torn}. Mend it or take it off the list.") from None
    except OSError as error:
        raise DataError(f"shard {path} cannot be read: {error.strerror}") from None
    return _collect(path, list(group_members(members)), selector, torn)


def _collect(path: str, samples: list[RawSample], selector: Selector, torn: str | None) -> ShardIndex:
    keys, spans, rows, faults = ColumnBuilder(), [], [], []
    times = Counter(sample.key for sample in samples)
    for number, sample in enumerate(samples):
        chosen = _why_not_key(sample.key) or selector.choose(sample)
        if isinstance(chosen, str):
            chosen += f" ({_APART})" if times[sample.key] > 1 else ""
            faults.append(Fault(path, number, printable(sample.key), chosen))
            continue
        image, text = chosen
        keys.append(sample.key)
        spans.append((image.offset, image.size, text.offset, text.size))
        rows.append(number)
    if torn is not None:
        faults.append(Fault(path, len(samples), "(rest of the shard)", torn))
    table = np.array(spans, dtype=np.int64).reshape(-1, 4)
    return ShardIndex(path, keys.finish(), table, np.array(rows, dtype=np.int64), tuple(faults))


def _why_not_key(key: str) -> str | None:
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not valid UTF-8"
    return None


def _places(path: str, index_dir: str | None) -> list[Path]:
    """Name the index files to try, in order."""
    full = Path(os.path.abspath(path))
    # Shards of different folders share their names: the folder goes into the name outside of it.
    elsewhere = f"{full.name}-{hashlib.sha256(os.fsencode(full)).hexdigest()[:16]}.npz"
    if index_dir is not None:
        return [Path(index_dir) / elsewhere]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [full.parent / _FOLDER / f"{full.name}.npz", cache / "open_clip" / "shard_index" / elsewhere]


def _load(place: Path, path: str, stamp: str) -> ShardIndex | None:
    """Read an index file; None when there is none, or it is damaged or of an older shard."""
    try:
        with np.load(place, allow_pickle=False) as file:
            if bytes(file["stamp"]).decode("utf-8") != stamp:
                return None
            faults = tuple(Fault(path, *entry) for entry in json.loads(bytes(file["faults"])))
            keys = TextColumn(file["keys"], file["key_offsets"])
            return ShardIndex(path, keys, file["spans"], file["rows"], faults)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        _LOG.warning("index %s is damaged (%s): reading the shard again", place, type(error).__name__)
        return None


def _store(index: ShardIndex, place: Path, stamp: str) -> bool:
    """Write an index file whole or not at all; tell whether that was possible."""
    temporary = place.with_name(f".tmp-{place.name}-{os.getpid()}")
    arrays: dict[str, Any] = {
        "stamp": _blob(stamp),
        "keys": index.keys.blob,
        "key_offsets": index.keys.offsets,
        "spans": index.spans,
        "rows": index.rows,
        "faults": _blob(json.dumps([fault[1:] for fault in index.faults])),
    }
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(place)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        return False
    return True


def _blob(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
