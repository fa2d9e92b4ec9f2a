"""Where the samples of a shard stand: made by one walk over its headers.

An index holds no captions and no images; `index_file.py` keeps it.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from open_clip.errors import DataError, printable
from open_clip.files import open_plain
from training.data.columns import ColumnBuilder, TextColumn
from training.data.quarantine import Fault
from training.data.shards.selector import RawSample, Selector, group_members
from training.data.shards.tar import Member, TornTarError, read_members

_AGAIN: Final = "its name comes again elsewhere in the shard, with members of the same kind"
_MAX_KEY_BYTES: Final = 4096
_MAX_SHOWN: Final = 200


@dataclass(frozen=True)
class ShardIndex:
    """The usable samples of one shard.

    Attributes:
        path: the tar file.
        keys: name of each sample.
        spans: int64 [n, 2 C], offset and size of each column's member; the image comes first, then the caption.
        rows: int64 [n], number of each sample in the shard, the unusable ones counted.
        faults: samples that cannot be used, and where the shard breaks off.
        num_joined: samples whose members did not stand together.
        ways: uint8 [n, F], which way each further column's value is found; None without further columns.
    """

    path: str
    keys: TextColumn
    spans: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    faults: tuple[Fault, ...]
    num_joined: int = 0
    ways: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.spans)


def make_index(path: str, selector: Selector) -> ShardIndex:
    """Walk over a shard.

    Raises:
        DataError: it cannot be opened, or is no tar file at all.
    """
    members: list[Member] = []
    torn: str | None = None
    try:
        with open_plain(path) as file:
            for member in read_members(file.fileno()):
                members.append(member)
    except TornTarError as error:
        torn = str(error)
        if not members:
            raise DataError(
                f"shard {printable(path)} cannot be read: {torn}. Mend it or take it off the list."
            ) from None
    except OSError as error:
        raise DataError(f"shard {printable(path)} cannot be read: {error.strerror}") from None
    return _collect(path, list(group_members(members)), selector, torn)


def _collect(path: str, samples: list[RawSample], selector: Selector, torn: str | None) -> ShardIndex:
    keys, spans, ways, rows, faults = ColumnBuilder(), [], [], [], []
    samples, num_joined = _join_apart(samples, selector)
    times = Counter(sample.key for sample in samples)
    for number, sample in enumerate(samples):
        chosen = _why_not_key(sample.key) or selector.choose(sample)
        if isinstance(chosen, str):
            chosen += f" ({_AGAIN})" if times[sample.key] > 1 else ""
            faults.append(Fault(path, number, printable(sample.key, _MAX_SHOWN), chosen))
            continue
        # A key only names a sample: bytes that are no UTF-8 stand in it as escapes.
        keys.append(sample.key.encode("utf-8", "backslashreplace").decode("utf-8"))
        spans.append([number for member in chosen.members for number in (member.offset, member.size)])
        ways.append(chosen.ways)
        rows.append(number)
    if torn is not None:
        faults.append(Fault(path, len(samples), "(rest of the shard)", torn))
    return ShardIndex(
        path,
        keys.finish(),
        np.array(spans, dtype=np.int64).reshape(-1, 2 * len(selector.columns)),
        np.array(rows, dtype=np.int64),
        tuple(faults),
        num_joined,
        np.array(ways, dtype=np.uint8).reshape(-1, len(selector.further)) if selector.further else None,
    )


def _join_apart(samples: list[RawSample], selector: Selector) -> tuple[list[RawSample], int]:
    """Put samples together whose members stand apart in the shard, where their names leave no doubt.

    A name whose parts hold the same suffix twice stays apart. One part that is whole already is the sample, and other
    parts without image and caption are what else belongs to it.

    Returns:
        The samples, each at the place of its first part, and how many were put together.
    """
    parts: dict[str, list[RawSample]] = {}
    for sample in samples:
        parts.setdefault(sample.key, []).append(sample)
    if len(parts) == len(samples):
        return samples, 0
    # Once a name: a hostile shard may give all its members the same.
    wholes = {key: _join(same) for key, same in parts.items()}
    has_whole = {
        key: len(same) > 1 and any(not isinstance(selector.choose(part), str) for part in same)
        for key, same in parts.items()
    }
    num_joined = 0
    kept: list[RawSample] = []
    for sample in samples:
        same, whole = parts[sample.key], wholes[sample.key]
        if has_whole[sample.key]:
            if selector.is_concerned(sample):
                kept.append(sample)
        elif whole is None:
            kept.append(sample)
        elif sample is same[0]:
            kept.append(whole)
            num_joined += len(same) > 1
    return kept, num_joined


def _join(parts: list[RawSample]) -> RawSample | None:
    """Put the parts of one name together; None where a suffix comes twice."""
    whole = {suffix: member for part in parts for suffix, member in part.members.items()}
    return RawSample(parts[0].key, whole) if len(whole) == sum(len(part.members) for part in parts) else None


def _why_not_key(key: str) -> str | None:
    num_bytes = len(key.encode("utf-8", "surrogateescape"))
    if num_bytes <= _MAX_KEY_BYTES:
        return None
    return f"its name of {num_bytes:,} bytes is over the limit of {_MAX_KEY_BYTES:,}"
