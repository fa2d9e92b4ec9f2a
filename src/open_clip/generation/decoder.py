"""What a search asks of a model, and the plain way to answer it. Choosing tokens is the searches' job.

Shapes: N images, R rows (searched texts; the rows of an image lie together), L tokens, V vocabulary.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Decoder(ABC):
    """Scores of the next token for rows of growing texts."""

    window: int

    @abstractmethod
    def next_logits(self, ids: Tensor) -> Tensor:
        """Score what follows ``ids`` [R, L]: [R, V]. Only the last ``window`` tokens are read.

        Between two calls rows may only grow, or be moved by ``reorder``.
        """

    @abstractmethod
    def reorder(self, rows: Tensor) -> None:
        """Say that row i of the next call continues row ``rows[i]`` [R] of the last one, of the same image."""


class PrefixDecoder(Decoder):
    """Runs the whole model on the whole text at every step: slow, and right for every kind of text tower."""

    def __init__(
        self, model: nn.Module, image_latent: Tensor, image_embs: Tensor, rows_per_image: int, window: int
    ) -> None:
        self.model = model
        self.image_latent = image_latent.repeat_interleave(rows_per_image, dim=0)
        self.image_embs = image_embs.repeat_interleave(rows_per_image, dim=0)
        self.window = window

    def next_logits(self, ids: Tensor) -> Tensor:
        """Run image tokens and texts [R, L] through the model and keep the last position's scores [R, V]."""
        output = self.model(
            None,
            ids[:, -self.window :],
            image_latent=self.image_latent,
            image_embs=self.image_embs,
            output_labels=False,
        )
        logits: Tensor = output["logits"][:, -1]
        return logits

    def reorder(self, rows: Tensor) -> None:
        """Do nothing: texts are read anew at every step, and rows stay with their image."""
