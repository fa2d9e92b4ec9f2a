"""Checkpoints of a run: written whole or not at all, recorded, verified, found again, put back, copied elsewhere."""

from training.checkpoint.background import Background
from training.checkpoint.find import list_checkpoints
from training.checkpoint.identity import describe_recipe, refuse_other_recipe
from training.checkpoint.keeper import Keeper, Saved
from training.checkpoint.manifest import Manifest, ManifestEntry
from training.checkpoint.payload import Order, RunState, Trained, collect
from training.checkpoint.remote import RemoteFolder, fetch_file, is_remote
from training.checkpoint.restore import (
    restore,
    restore_averages,
    restore_own,
    restore_weights,
)
from training.checkpoint.schema import Payload, is_training_checkpoint
from training.checkpoint.snapshot import Snapshot
from training.checkpoint.store import FileStore, Store
from training.checkpoint.sync import RemoteSync
from training.checkpoint.timing import SaveTimer
from training.checkpoint.verify import read_newest, read_verified
from training.checkpoint.write import to_host, write_checkpoint

__all__ = [
    "Background",
    "FileStore",
    "Keeper",
    "Manifest",
    "ManifestEntry",
    "Order",
    "Payload",
    "RemoteFolder",
    "RemoteSync",
    "RunState",
    "SaveTimer",
    "Saved",
    "Snapshot",
    "Store",
    "Trained",
    "collect",
    "fetch_file",
    "is_remote",
    "list_checkpoints",
    "read_newest",
    "read_verified",
    "describe_recipe",
    "refuse_other_recipe",
    "is_training_checkpoint",
    "restore",
    "restore_averages",
    "restore_own",
    "restore_weights",
    "to_host",
    "write_checkpoint",
]
