"""Index files: kept beside the shards, made anew when a shard changed, written whole and never through a link.

A file may have come with the shards from anywhere: what is damaged, oversized or does not fit its shard is no index.
"""

import hashlib
import io
import json
import logging
import os
import stat
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from open_clip.checkpoint.arrays import read_array_archive
from open_clip.errors import DataError, printable
from open_clip.files import new_file, read_plain
from training.data.columns import TextColumn
from training.data.quarantine import Fault
from training.data.shards.index import ShardIndex, make_index
from training.data.shards.selector import Selector

_Array = npt.NDArray[Any]
_LOG = logging.getLogger(__name__)
_SCHEMA: Final = 5
_FOLDER: Final = ".open_clip_index"
_ENTRIES: Final = ("stamp", "keys", "key_offsets", "spans", "rows", "faults", "joined")
# Only where there are further columns, so that an index of images and captions is the file it always was.
_WAYS: Final = "ways"
_MAX_BYTES: Final = 1 << 28
_LEAST_BYTES: Final = 1 << 16
_MAX_REASON: Final = 500


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
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"shard {printable(path)} cannot be opened: {reason}") from None
    # A fifo would hold the process for ever.
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"shard {printable(path)} is no regular file.")
    stamp = json.dumps([_SCHEMA, status.st_size, status.st_mtime_ns, selector.identity])
    files = _index_files(path, index_dir)
    for file in files:
        index = _load(file, path, status.st_size, stamp, selector)
        if index is not None:
            return index
    index = make_index(path, selector)
    for file in files:
        if _store(index, file, status.st_size, stamp):
            break
    return index


def _index_files(path: str, index_dir: str | None) -> list[Path]:
    """Name the index files to try, in order."""
    full = Path(os.path.abspath(path))
    # Shards of different folders share their names: the folder goes into the name outside of it.
    elsewhere = f"{full.name}-{hashlib.sha256(os.fsencode(full)).hexdigest()[:16]}.npz"
    if index_dir is not None:
        return [Path(index_dir) / elsewhere]
    files = [full.parent / _FOLDER / f"{full.name}.npz"]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # A user without a home has no cache either.
    return [*files, Path(cache, "open_clip", "shard_index", elsewhere)] if os.path.isabs(cache) else files


def _load(file: Path, path: str, shard_bytes: int, stamp: str, selector: Selector) -> ShardIndex | None:
    """Read an index file; None when there is none or it is of another shard, with a warning when it is no index."""
    try:
        parts = _read_arrays(read_plain(file, _max_bytes(shard_bytes)))
        if bytes(parts["stamp"]).decode("utf-8") != stamp:
            return None
        return _check(parts, path, shard_bytes, selector)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    # Damaged archives and made-up numbers raise nearly anything; the shard itself is there to be read.
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        reason = printable(reason or type(error).__name__, 200)
        _LOG.warning("index %s is damaged (%s): reading the shard again", printable(file), reason)
        return None


def _store(index: ShardIndex, file: Path, shard_bytes: int, stamp: str) -> bool:
    """Write an index file whole or not at all; tell whether that was possible."""
    arrays: dict[str, Any] = {
        "stamp": _blob(stamp),
        "keys": index.keys.blob,
        "key_offsets": index.keys.offsets,
        "spans": index.spans,
        "rows": index.rows,
        "faults": _blob(json.dumps([fault[1:] for fault in index.faults])),
        "joined": np.array([index.num_joined], dtype=np.int64),
    }
    if index.ways is not None:
        arrays[_WAYS] = index.ways
    held = io.BytesIO()
    np.savez(held, **arrays)
    if held.tell() > _max_bytes(shard_bytes):
        return False
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Beside the shards it came with them and may lead anywhere; a folder that a flag names is the user's to link.
        if file.parent.name == _FOLDER and file.parent.is_symlink():
            return False
        with new_file(file) as handle:
            handle.write(held.getbuffer())
    except OSError:
        return False
    return True


def _max_bytes(shard_bytes: int) -> int:
    """Limit an index to what so large a shard can need: a sample takes four blocks there and some 60 bytes here."""
    return min(_MAX_BYTES, _LEAST_BYTES + shard_bytes // 2)


def _read_arrays(content: bytes) -> dict[str, _Array]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        names = [member.filename.removesuffix(".npy") for member in members]
        if sorted(names) not in (sorted(_ENTRIES), sorted((*_ENTRIES, _WAYS))):
            raise ValueError("it holds other entries than an index")
        # As numpy writes them; a packed one could unfold to any size.
        if any(member.compress_type != zipfile.ZIP_STORED or member.file_size > len(content) for member in members):
            raise ValueError("its entries are packed or larger than the file")
        return {name: tensor.numpy() for name, tensor in read_array_archive(archive).items()}


def _check(parts: dict[str, _Array], path: str, shard_bytes: int, selector: Selector) -> ShardIndex:
    """Put an index together from arrays that hold what they must, and nothing that could not be in the shard."""
    spans, rows, offsets, blob = parts["spans"], parts["rows"], parts["key_offsets"], parts["keys"]
    _require(all(parts[name].dtype == np.int64 for name in ("spans", "rows", "key_offsets", "joined")), "types")
    _require(all(parts[name].dtype == np.uint8 and parts[name].ndim == 1 for name in ("keys", "faults")), "types")
    count = len(spans)
    _require(spans.shape == (count, 2 * len(selector.columns)), "shapes")
    _require(rows.shape == (count,) and offsets.shape == (count + 1,), "shapes")
    _require(parts["joined"].shape == (1,) and 0 <= parts["joined"][0] <= count, "counts")
    _require(bool((np.diff(rows, prepend=-1) > 0).all()) and rows.max(initial=0) <= shard_bytes, "rows")
    _require(offsets[0] == 0 and offsets[-1] == len(blob) and bool((np.diff(offsets) >= 0).all()), "keys")
    blob.tobytes().decode("utf-8")
    # The blob as a whole is UTF-8; no key may begin at a byte that goes on with a character.
    inner = offsets[(offsets > 0) & (offsets < len(blob))]
    _require(not bool((blob[inner] & 0xC0 == 0x80).any()), "keys")
    _check_spans(spans, shard_bytes)
    return ShardIndex(
        path,
        TextColumn(blob, offsets),
        spans,
        rows,
        _read_faults(parts, path),
        int(parts["joined"][0]),
        _check_ways(parts.get(_WAYS), count, selector),
    )


def _check_ways(ways: _Array | None, count: int, selector: Selector) -> npt.NDArray[np.uint8] | None:
    """Return the ways of further columns, each one that its column has."""
    if ways is None:
        _require(not selector.further, "columns")
        return None
    _require(ways.dtype == np.uint8 and ways.shape == (count, len(selector.further)), "columns")
    _require(bool((ways < [len(column.ways) for column in selector.further]).all()), "columns")
    return ways


def _check_spans(spans: npt.NDArray[np.int64], shard_bytes: int) -> None:
    members = spans.reshape(-1, 2)
    starts, sizes = members[np.argsort(members[:, 0], kind="stable")].T
    _require(bool(((starts > 0) & (starts <= shard_bytes) & (sizes >= 0) & (sizes <= shard_bytes)).all()), "members")
    stops = starts + sizes
    # One member may be both image and caption where the flags say so, but no two share bytes.
    apart = (stops[:-1] <= starts[1:]) | ((starts[:-1] == starts[1:]) & (sizes[:-1] == sizes[1:]))
    _require(stops.max(initial=0) <= shard_bytes and bool(apart.all()), "members")


def _read_faults(parts: dict[str, _Array], path: str) -> tuple[Fault, ...]:
    faults = []
    for row, key, reason in json.loads(bytes(parts["faults"])):
        _require(type(row) is int and row >= 0 and isinstance(key, str) and isinstance(reason, str), "faults")
        faults.append(Fault(path, row, printable(key), printable(reason, _MAX_REASON)))
    return tuple(faults)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"its {what} do not fit together or not the shard")


def _blob(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
