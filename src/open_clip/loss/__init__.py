"""The losses, under the names people import. No logic."""

from open_clip.loss.clip import ClipLoss
from open_clip.loss.coca import CoCaLoss
from open_clip.loss.distill import DistillClipLoss
from open_clip.loss.gather import gather_features
from open_clip.loss.neighbours import (
    NeighbourExchange,
    NeighbourExchangeBidir,
    neighbour_exchange,
    neighbour_exchange_bidir,
    neighbour_exchange_bidir_with_grad,
    neighbour_exchange_with_grad,
)
from open_clip.loss.siglip import SigLipLoss

__all__ = [
    "ClipLoss",
    "CoCaLoss",
    "DistillClipLoss",
    "NeighbourExchange",
    "NeighbourExchangeBidir",
    "SigLipLoss",
    "gather_features",
    "neighbour_exchange",
    "neighbour_exchange_bidir",
    "neighbour_exchange_bidir_with_grad",
    "neighbour_exchange_with_grad",
]
