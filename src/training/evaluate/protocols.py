"""What evaluations ask of a recipe. Any object that has these methods can be evaluated; no class of a recipe is named.

Shapes: B rows of a batch, E embedding width, C classes.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from open_clip.transformer.texts import Texts
from training.data import Batch

Outputs = dict[str, Tensor]


class EvaluatedTask(Protocol):
    """A recipe whose model can be run on batches of validation rows.

    Attributes:
        model: The model; while evaluations measure, the bare one in evaluation mode.
        own: Parameters of the recipe itself; None without any.
    """

    model: torch.nn.Module
    own: torch.nn.Module | None

    def prepare(self, batch: Batch) -> Batch:
        """Make a batch that is on the device ready for the model."""

    def forward(self, batch: Batch) -> Outputs:
        """Run the model on a prepared batch: named outputs."""

    def row_metrics(self, outputs: Outputs) -> Outputs:
        """Compute figures of each row, float [B], whose means over the validation rows are reported."""

    def figures(self) -> Outputs:
        """Give named scalars on the device; ``logit_scale`` is the factor of similarities in the loss."""


@runtime_checkable
class EncodesSides(EvaluatedTask, Protocol):
    """A recipe that can encode images and texts each without the other.

    Attributes:
        encodes_apart: Whether evaluation needs nothing but the features of both sides.
    """

    encodes_apart: bool

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode prepared images, [B, E] normalised."""

    def encode_texts(self, texts: Texts) -> Tensor:
        """Encode texts, [B, E] normalised."""


@runtime_checkable
class ScoresClasses(EvaluatedTask, Protocol):
    """A recipe that tells each row's class."""

    def class_scores(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Score a prepared batch: scores [B, C], the larger the likelier, and true class numbers, int64 [B]."""


class PredictedLabel(Protocol):
    """A label that was predicted, with its probability."""

    @property
    def text(self) -> str:
        """The label."""

    @property
    def prob(self) -> float:
        """Its probability."""


@runtime_checkable
class PredictsLabels(EvaluatedTask, Protocol):
    """A recipe that names what is in an image."""

    def predict_labels(self, batch: Batch, k: int) -> Sequence[Sequence[PredictedLabel]]:
        """Predict up to k labels for each row of a prepared batch, best first."""

    def reference_labels(self, batch: Batch) -> Sequence[tuple[str, ...]]:
        """Give the labels of the data for each row."""
