"""What a recipe is: its flags, the models that fit, what a batch holds, its losses, what it reports.

A recipe stands in one file and is found by its name. It never opens files, never logs and never steps an optimizer. Its
losses come in three kinds. Joint losses see all rows of a step together, so that a step of several batches caches what
they read (:meth:`Task.row_outputs`). Row losses are sums over rows: those of a step's batches add up, and nothing of
them is cached. Parameter losses see no row and count once a step.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

import torch

from training.data import Batch, Field, FieldKit
from training.device import Precision
from training.distributed import World
from training.evaluate import Evaluation, EvaluationKit
from training.optim import WeightAverage
from training.params import RunParams

Outputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Setup:
    """What a recipe is made from.

    Attributes:
        model: The model, bare: before it is wrapped for several processes.
        params: The flags of the run; those that the recipe declares are ``params.own``.
        world: Place of this process.
        torch_device: Where the model is.
        precision: What it computes in.
        mean: What images are normalised with, by channel.
        std: Likewise.
    """

    model: Any
    params: RunParams
    world: World
    torch_device: torch.device
    precision: Precision
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def options(self) -> "PixelOptions":
        """Give what the recipes of this folder take beside model and loss: how images are prepared."""
        return {"mean": self.mean, "std": self.std, "input_dtype": self.precision.input_dtype}


class PixelOptions(TypedDict):
    """How uint8 images become what a model sees."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_dtype: torch.dtype | None


class Task(ABC):
    """One training recipe.

    Attributes:
        name: How ``--task`` finds it and what a checkpoint calls it.
        Flags: A dataclass of flags (``params.flags.flag``) that the command line has with this recipe; None for none.
        model: What is trained, the model of the flags or one that the recipe has made of it; replaced by its wrapper
            when processes train together.
        own: Parameters of the recipe itself, trained, clipped, averaged and saved with the model's; None without any.
            Each process has them whole, and they may be used anywhere in the losses.
        average: The moving average of the model's weights, when the run keeps one.
        own_average: Likewise of the recipe's own parameters.
        text_shapes: (rows, tokens) in which texts without padding were computed so far, where these are to be few.
        decay_rule: Which parameters are not decayed unless ``--decay-rule`` says otherwise.
        encodes_apart: Whether evaluation needs nothing but the features of images and of texts, each made alone: it
            then prepares batches that have images and no other field.
    """

    name: ClassVar[str]
    Flags: ClassVar[type | None] = None
    model: torch.nn.Module
    own: torch.nn.Module | None = None
    average: WeightAverage | None = None
    own_average: WeightAverage | None = None
    text_shapes: frozenset[tuple[int, int]] = frozenset()
    decay_rule: str = "openclip"
    encodes_apart: bool = False

    @property
    def trained(self) -> torch.nn.Module:
        """All that is trained: the model, and the recipe's own parameters after it."""
        return self.model if self.own is None else torch.nn.ModuleList([self.model, self.own])

    @classmethod  # noqa: B027 (most have nothing to check)
    def check(cls, params: RunParams, world: World) -> None:
        """Refuse flags that do not go together, before anything is built.

        Raises:
            ConfigError: Says which and what to change.
        """

    @classmethod
    def model_options(cls, params: RunParams) -> Mapping[str, object]:
        """Give what the model is created with beside what the flags say."""
        return {}

    @classmethod
    def why_not(cls, model: torch.nn.Module) -> str | None:
        """Say why a bare model cannot be trained with this recipe; None where it can."""
        return None

    @classmethod
    @abstractmethod
    def build(cls, setup: Setup) -> "Task":
        """Make the recipe for a model that fits; what it draws is the same in all processes.

        Raises:
            ConfigError: The flags do not fit the model.
        """

    @classmethod
    @abstractmethod
    def fields(cls, kit: FieldKit, params: RunParams) -> tuple[Field, ...]:
        """List what a batch holds, for training rows and for validation rows; asked before there is a model, too."""

    @abstractmethod
    def prepare(self, batch: Batch) -> Batch:
        """Normalise a batch that is on the device and cast it to the model's input type."""

    @abstractmethod
    def forward(self, batch: Batch) -> Outputs:
        """Run the model on a prepared batch.

        Returns:
            Named outputs; those in :meth:`row_outputs` have one row a sample.
        """

    def fixed_outputs(self, batch: Batch) -> Outputs:
        """Compute what the losses need beside the model's outputs and what never has a gradient; once a batch."""
        return {}

    def step_totals(self, batches: Sequence[Batch]) -> Outputs:
        """Compute what row losses must know of all batches of a step, on all processes."""
        return {}

    def row_outputs(self) -> tuple[str, ...]:
        """Name the outputs that joint losses read row by row; none when no loss couples rows."""
        return ()

    def encode_rows(self, batch: Batch) -> Outputs:
        """Compute the :meth:`row_outputs` that the model makes, for the cache of a step of several batches.

        What is random in the model must be drawn in the order of :meth:`forward`, which draws the same again; leaving
        out what comes after the last of these outputs is fine.
        """
        outputs = self.forward(batch)
        return {name: outputs[name] for name in self.row_outputs() if name in outputs}

    def joint_losses(self, outputs: Outputs) -> Outputs:
        """Compute the named losses that see all rows of a step; the loop minimises the sum of all losses."""
        return {}

    def row_losses(self, outputs: Outputs) -> Outputs:
        """Compute a batch's share of the named losses that are sums over rows."""
        return {}

    def parameter_losses(self) -> Outputs:
        """Compute named losses of parameters alone, once a step."""
        return {}

    def row_metrics(self, outputs: Outputs) -> Outputs:
        """Compute figures of each row, float [B], whose means over the validation rows are reported."""
        return {}

    def evaluations(self, kit: EvaluationKit) -> tuple[Evaluation, ...]:
        """Make what this recipe is measured with, in the report's order; ``--evaluate`` chooses of them."""
        return ()

    def clamp(self) -> None:  # noqa: B027 (few parameters have a range)
        """Put parameters back into their allowed range, without a host sync."""

    def after_step(self) -> None:
        """Follow up an optimizer step, without a host sync: bounds first, then the averages of the weights."""
        self.clamp()
        for average in (self.average, self.own_average):
            if average is not None:
                average.update()

    def figures(self) -> Outputs:
        """Give named scalars on the device to be reported beside the losses, such as ``logit_scale``."""
        return {}
