"""From a pattern of shards to rows: all of them there, each counted once, the work shared by processes."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from open_clip.errors import DataError
from training.data.quarantine import Fault
from training.data.shards.cache import ShardCache
from training.data.shards.index import open_index
from training.data.shards.selector import Selector
from training.data.shards.sizes import read_remote_sizes
from training.data.shards.table import ShardTable, Visit
from training.data.urls import local_path, require_shards

_LOG = logging.getLogger(__name__)

Gather = Callable[[Any], list[Any]]
_Counted = tuple[int, tuple[Fault, ...]]


def open_shards(
    source: str,
    shards: Sequence[str],
    selector: Selector,
    visit: Visit,
    *,
    index_dir: str | None = None,
    cache: ShardCache | None = None,
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
        rank: this process; it counts every world_size-th shard.
        world_size: number of processes.
        gather: gives every process the list of all processes' values.

    Raises:
        DataError: shards are missing or unreadable, or hold no sample; on all processes alike.
    """
    require_shards(shards)
    if cache is None:
        _refuse_remote(shards)
    locate = _as_path if cache is None else cache.locate
    sizes = {} if cache is None else read_remote_sizes(shards, cache.allow_pipe)
    own: dict[int, _Counted | str] = {
        place: (sizes[shards[place]], ())
        if shards[place] in sizes
        else _count(shards[place], selector, index_dir, locate)
        for place in range(rank, len(shards), world_size)
    }
    counted: dict[int, _Counted | str] = {}
    for part in gather(own):
        counted |= part
    results: list[_Counted] = []
    problems: list[str] = []
    for place in range(len(shards)):
        entry = counted[place]
        if isinstance(entry, str):
            problems.append(entry)
        else:
            results.append(entry)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError("\n  ".join([f"{len(problems)} of {len(shards)} shards:", *problems[:3]]) + more)
    counts = np.array([count for count, _ in results], dtype=np.int64)
    if counts.sum() == 0:
        raise DataError(
            f"the {len(shards)} shards of {source} hold no sample with {' or '.join(selector.image_keys)} and "
            f"{' or '.join(selector.json_keys or selector.text_keys)}. Name other suffixes with --image-key and "
            "--text-key."
        )
    faults = [fault for _, shard_faults in results for fault in shard_faults]
    return ShardTable(
        source,
        shards,
        counts,
        selector,
        visit,
        index_dir=index_dir,
        faults=faults,
        locate=locate,
        fetch_ahead=None if cache is None else cache.fetch_ahead,
    )


def _count(shard: str, selector: Selector, index_dir: str | None, locate: Callable[[str], str]) -> _Counted | str:
    try:
        index = open_index(locate(shard), selector, index_dir)
    except DataError as error:
        return str(error)
    return len(index), index.faults


def _as_path(shard: str) -> str:
    path = local_path(shard)
    assert path is not None
    return path


def _refuse_remote(shards: Sequence[str]) -> None:
    remote = [shard for shard in shards if local_path(shard) is None]
    if remote:
        raise DataError(
            f"{len(remote)} of {len(shards)} shards are not on this machine, {remote[0]} for one. Give --shard-cache "
            "FOLDER to keep copies here, or --shard-order buffer to stream them in upstream's order."
        )
