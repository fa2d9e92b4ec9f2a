"""From a pattern of shards to rows: all of them there, each counted once, the work shared by processes."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from open_clip.errors import DataError, printable
from training.data.members import refuse_missing_keys
from training.data.order import IntArray
from training.data.quarantine import Fault
from training.data.shards.cache import ShardCache
from training.data.shards.census import NUM_DESCRIBED, describe_shards, list_columns
from training.data.shards.index import ShardIndex
from training.data.shards.index_file import open_index
from training.data.shards.rows import ShardTable, Visit
from training.data.shards.same_images import Digests, Gather, digest_ends, number_images
from training.data.shards.selector import Selector
from training.data.shards.sizes import read_remote_sizes
from training.data.source import MissingColumns
from training.data.urls import local_path, require_shards

_LOG = logging.getLogger(__name__)


class _Counted(NamedTuple):
    num_samples: int
    faults: tuple[Fault, ...] = ()
    num_joined: int = 0
    num_bytes: int | None = None
    ends: Digests | None = None


def open_shards(
    source: str,
    shards: Sequence[str],
    selector: Selector,
    visit: Visit,
    *,
    index_dir: str | None = None,
    cache: ShardCache | None = None,
    group_images: bool = False,
    rank: int = 0,
    world_size: int = 1,
    gather: Gather = lambda value: [value],
) -> ShardTable:
    """Count the samples of all shards and give them as rows; every process must call it.

    Args:
        source: the pattern as it was given, for messages.
        shards: the shards.
        selector: which members make a sample.
        visit: how an epoch goes over the shards.
        index_dir: folder of the index files; beside the shards when None.
        cache: keeps copies of shards that lie elsewhere; without one such shards are refused. Where ``sizes.json``
            beside them says how many samples they hold, they are fetched when they are first read, else at once.
        group_images: find the rows that show the same image, for evaluation; every shard is then fetched and its images
            are read where they may come again.
        rank: this process; it counts every world_size-th shard.
        world_size: number of processes.
        gather: gives every process the list of all processes' values.

    Raises:
        DataError: shards are missing or unreadable, or hold no sample; on all processes alike.
        MissingColumns: no sample has one of the selector's further columns.
    """
    require_shards(shards)
    if cache is None:
        _refuse_remote(shards)
    locate = _as_path if cache is None else cache.locate
    sizes = {} if cache is None or group_images else read_remote_sizes(shards, cache.allow_pipe)

    def open_one(number: int) -> ShardIndex:
        return open_index(locate(shards[number]), selector, index_dir)

    own_numbers = range(rank, len(shards), world_size)
    own: dict[int, _Counted | str] = {
        number: _Counted(sizes[shards[number]]) if shards[number] in sizes else _count(number, open_one, group_images)
        for number in own_numbers
    }
    results = _merge(gather(own), len(shards))
    counts = np.array([counted.num_samples for counted in results], dtype=np.int64)
    faults = [fault for counted in results for fault in counted.faults]
    if counts.sum() == 0:
        _refuse_missing(source, shards, faults, selector, locate)
        raise DataError(_no_sample(source, shards, faults, selector, locate))
    if sizes and selector.further:
        # Counts that stand beside the shards say nothing of what their samples hold.
        index = open_one(next(number for number, shard in enumerate(shards) if shard in sizes))
        if not len(index):
            _refuse_missing(source, shards, index.faults, selector, locate)
    if rank == 0:
        _tell(source, results, visit, counts)
    shard_bytes = [counted.num_bytes for counted in results if counted.num_bytes is not None]
    ends = [counted.ends for counted in results if counted.ends is not None]
    image_ids = number_images(counts, ends, own_numbers, open_one, gather) if group_images else None
    table = ShardTable(
        source,
        shards,
        counts,
        selector,
        visit,
        index_dir=index_dir,
        faults=faults,
        image_ids=image_ids,
        shard_bytes=shard_bytes if len(shard_bytes) == len(shards) else (),
        locate=locate,
        fetch_ahead=None if cache is None else cache.fetch_ahead,
    )
    refuse_missing_keys(table, selector.further, lambda: _list_columns(shards, locate))
    return table


def _list_columns(shards: Sequence[str], locate: Callable[[str], str]) -> list[str]:
    return list_columns([locate(shard) for shard in shards[:NUM_DESCRIBED]])


def _refuse_missing(
    source: str, shards: Sequence[str], faults: Sequence[Fault], selector: Selector, locate: Callable[[str], str]
) -> None:
    """Refuse a further column that no sample has: a wrong flag, where missing images and captions are wrong data."""
    commonest = Counter(fault.reason for fault in faults).most_common(1)
    if commonest and commonest[0][0] in [column.lacking for column in selector.further]:
        there = _list_columns(shards, locate)
        missing = [column for column in selector.further if not any(way.suffix in there for way in column.ways)]
        raise MissingColumns(source, [column.name for column in missing or selector.further], there)


def _count(number: int, open_one: Callable[[int], ShardIndex], group_images: bool) -> _Counted | str:
    try:
        index = open_one(number)
        num_bytes = os.stat(index.path).st_size
        ends = digest_ends(index) if group_images else None
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"shard {printable(index.path)} cannot be read: {error.strerror}"
    return _Counted(len(index), index.faults, index.num_joined, num_bytes, ends)


def _merge(gathered: list[dict[int, _Counted | str]], num_shards: int) -> list[_Counted]:
    """Put the counts of all processes in the shards' order; what one could not count is an error on all."""
    counted: dict[int, _Counted | str] = {}
    for part in gathered:
        counted |= part
    results: list[_Counted] = []
    problems: list[str] = []
    for number in range(num_shards):
        entry = counted[number]
        if isinstance(entry, str):
            problems.append(entry)
        else:
            results.append(entry)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError("\n  ".join([f"{len(problems)} of {num_shards} shards:", *problems[:3]]) + more)
    return results


def _no_sample(
    source: str, shards: Sequence[str], faults: Sequence[Fault], selector: Selector, locate: Callable[[str], str]
) -> str:
    captions = " or ".join(f".{key}" for key in selector.text_keys)
    if selector.json_keys:
        captions = f"{' or '.join(selector.json_keys)} in .json"
    found = describe_shards([locate(shard) for shard in shards[:NUM_DESCRIBED]], len(shards), faults, selector)
    return (
        f"the {len(shards)} shards of {printable(source)} hold no sample with an image "
        f"({', '.join(f'.{key}' for key in selector.image_keys)}) and a caption ({captions}). {found}"
    )


def _tell(source: str, results: Sequence[_Counted], visit: Visit, counts: IntArray) -> None:
    """Warn once of what the data has and the flags may not mean."""
    num_joined = sum(counted.num_joined for counted in results)
    if num_joined:
        _LOG.warning(
            "%s: the members of %d samples do not stand together; they were put together by name. --shard-order "
            "buffer and other readers do not see such samples.",
            printable(source),
            num_joined,
        )
    total = int(counts.sum())
    if visit.num_samples is not None and visit.weights is None and visit.num_samples > total:
        _LOG.warning(
            "--train-num-samples %d is more than the %d samples of the %d shards: an epoch has %d. Check the range of "
            "shards in %s.",
            visit.num_samples,
            total,
            len(results),
            total,
            printable(source),
        )


def _as_path(shard: str) -> str:
    path = local_path(shard)
    assert path is not None
    return path


def _refuse_remote(shards: Sequence[str]) -> None:
    remote = [shard for shard in shards if local_path(shard) is None]
    if remote:
        raise DataError(
            f"{len(remote)} of {len(shards)} shards are not on this machine, {printable(remote[0])} for one. Give "
            "--shard-cache FOLDER to keep copies here, or --shard-order buffer to stream them in upstream's order."
        )
