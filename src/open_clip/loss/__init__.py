"""The losses, under the names people import. No logic."""

from open_clip.loss.clip import ClipLoss
from open_clip.loss.distill import DistillClipLoss
from open_clip.loss.gather import gather_features

__all__ = ["ClipLoss", "DistillClipLoss", "gather_features"]
