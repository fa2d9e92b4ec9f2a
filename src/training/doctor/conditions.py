"""What a report measures, in plain values that travel to the process that measures it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from training.doctor.findings import Finding

#: What the device says of itself, and whether its software is a published set: two findings that head the report.
INFO, VERSIONS = "info", "versions"
#: The quickstart's.
RECIPE_BATCH = 128


@dataclass(frozen=True)
class Conditions:
    """Settings of a report.

    Attributes:
        device: Kind of device and index, as ``--device`` takes them.
        model: The model whose error and speed are measured.
        batch_size: Pairs of a timed step.
        recipe_batch: Pairs of a step of the fine-tuning.
        seconds: How long the fine-tuning trains; each timed row takes a sixth of it.
    """

    device: str
    model: str
    batch_size: int
    seconds: float
    recipe_batch: int = RECIPE_BATCH

    @property
    def row_seconds(self) -> float:
        """Seconds that one row of a table of speed is timed for."""
        return self.seconds / 6


@dataclass(frozen=True)
class Part:
    """One section of the report.

    Attributes:
        name: One word for it.
        title: Its heading.
        limit_s: Seconds after which it is given up.
        run: What gives its findings one by one; takes the conditions and the seconds it has.
        is_apart: Whether it starts processes of its own, so that it must hold no device itself.
        about: How its figures came about, for the reader of the report.
    """

    name: str
    title: str
    limit_s: float
    run: Callable[[Conditions, float], Iterator[Finding]]
    is_apart: bool = False
    about: str = ""
