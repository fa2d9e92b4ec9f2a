"""Tar shards read by position: an index a shard, a pure order over all of them."""

from training.data.shards.cache import ShardCache
from training.data.shards.open import open_shards
from training.data.shards.order import DEFAULT_WINDOW, ShardOrder
from training.data.shards.rows import ShardTable, Visit
from training.data.shards.selector import Selector

__all__ = ["DEFAULT_WINDOW", "Selector", "ShardCache", "ShardOrder", "ShardTable", "Visit", "open_shards"]
