"""The losses, under the names people import. No logic."""

from open_clip.loss.clip import ClipLoss
from open_clip.loss.coca import CoCaLoss
from open_clip.loss.distill import DistillClipLoss
from open_clip.loss.gather import gather_features
from open_clip.loss.siglip import SigLipLoss

__all__ = ["ClipLoss", "CoCaLoss", "DistillClipLoss", "SigLipLoss", "gather_features"]
