"""Read an Ascend cluster's rank table (RANK_TABLE_FILE): which rank has which card of which server."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_clip.errors import ConfigError


@dataclass(frozen=True)
class TableDevice:
    """One row: the server's address and the card's number there."""

    server: str
    device_id: int


@dataclass(frozen=True)
class RankTable:
    """A rank table; ``devices[rank]`` is where a rank runs."""

    devices: tuple[TableDevice, ...]

    def local_rank(self, rank: int) -> int:
        """Count the ranks before this one on its server."""
        server = self.devices[rank].server
        return sum(device.server == server for device in self.devices[:rank])

    def local_world_size(self, rank: int) -> int:
        """Count the ranks on this one's server."""
        server = self.devices[rank].server
        return sum(device.server == server for device in self.devices)


def read_rank_table(path: str | Path) -> RankTable:
    """Read a rank table of version 1 (``server_list``) or of the form before it (``group_list``).

    Raises:
        ConfigError: The file is not there, no rank table, not complete yet, or numbers its ranks with gaps.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"RANK_TABLE_FILE={path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"RANK_TABLE_FILE={path} is no rank table: it holds no object.")
    if str(content.get("status", "completed")) != "completed":
        raise ConfigError(
            f"RANK_TABLE_FILE={path} says status {content['status']!r}: wait until the cluster has completed it."
        )
    try:
        rows = dict(_rows(content))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"RANK_TABLE_FILE={path} is no rank table: {type(error).__name__} {error}.") from error
    if not rows or sorted(rows) != list(range(len(rows))):
        raise ConfigError(f"RANK_TABLE_FILE={path} must number its ranks from 0 without gaps; it has {sorted(rows)}.")
    return RankTable(tuple(rows[rank] for rank in range(len(rows))))


def _rows(content: dict[str, Any]) -> list[tuple[int, TableDevice]]:
    """Give (rank, place) of every device of a table."""
    if "server_list" in content:
        return [
            (int(device["rank_id"]), TableDevice(str(server["server_id"]), int(device["device_id"])))
            for server in content["server_list"]
            for device in server["device"]
        ]
    # The older form has no rank numbers: ranks are counted in the order of the file.
    places = [
        TableDevice(str(instance["server_id"]), int(device["device_id"]))
        for group in content["group_list"]
        for instance in group["instance_list"]
        for device in instance["devices"]
    ]
    return list(enumerate(places))
