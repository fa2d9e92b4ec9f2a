"""Sample counts that stand beside remote shards, so that a run may start before it has fetched them all."""

import logging
from collections.abc import Sequence

from open_clip.errors import printable
from training.data.shard_files import open_shard
from training.data.urls import MAX_SIZES_BYTES, local_path, parse_sizes

_LOG = logging.getLogger(__name__)


def read_remote_sizes(shards: Sequence[str], allow_pipe: bool = False) -> dict[str, int]:
    """Return the samples of each remote shard that the ``sizes.json`` in its folder names.

    A folder without such a file gives nothing. A count that proves too high costs the samples it promised, which are
    listed as unusable; one too low leaves samples out.
    """
    by_folder: dict[str, dict[str, int]] = {}
    found: dict[str, int] = {}
    for shard in shards:
        if local_path(shard) is not None or shard.lower().startswith("pipe:"):
            continue
        folder, _, name = shard.rpartition("/")
        if folder not in by_folder:
            by_folder[folder] = _read(f"{folder}/sizes.json", allow_pipe)
        if name in by_folder[folder]:
            found[shard] = by_folder[folder][name]
    return found


def _read(url: str, allow_pipe: bool) -> dict[str, int]:
    try:
        with open_shard(url, allow_pipe) as file:
            return parse_sizes(file.read(MAX_SIZES_BYTES))
    # File systems raise errors of their own kinds for a file that is not there; counting the shards settles it.
    except Exception as error:
        _LOG.info("no counts from %s (%s): shards are fetched and counted", printable(url), type(error).__name__)
        return {}
