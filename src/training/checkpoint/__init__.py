"""Checkpoints of a run: written whole or not at all, found again, put back."""

from training.checkpoint.find import list_checkpoints
from training.checkpoint.keeper import Keeper, Saved, read_newest
from training.checkpoint.payload import Order, Trained, collect, restore, restore_weights
from training.checkpoint.write import to_host, write_checkpoint

__all__ = [
    "Keeper",
    "Order",
    "Saved",
    "Trained",
    "collect",
    "list_checkpoints",
    "read_newest",
    "restore",
    "restore_weights",
    "to_host",
    "write_checkpoint",
]
