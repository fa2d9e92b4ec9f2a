"""What both sides of a row are told: where the inputs of this run lie, seeds, threads, device. Computes nothing."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Side = Literal["peer", "ours"]
#: Plain values by name, as a JSON line carries them: sizes of a row, facts, answers.
Values = dict[str, Any]
SIDES: tuple[Side, Side] = ("peer", "ours")


@dataclass(frozen=True)
class Settings:
    """One run of the benchmarks.

    Attributes:
        folder: Where the inputs of this run and the answers of both sides lie.
        seed: Starts every random generator.
        threads: Threads of torch, the same for both sides.
        device: As torch names it.
        captions: File with one caption a line, used for every mix; None makes captions up.
        images: Folder of JPEGs, used for every size; None makes images up.
        checked_steps: Training steps whose losses are compared.
        sizes: Sizes that replace a row's own, such as those of the tests.
    """

    folder: str
    seed: int = 0
    threads: int = 2
    device: str = "cpu"
    captions: str | None = None
    images: str | None = None
    checked_steps: int = 3
    sizes: Values = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The folder of this run."""
        return Path(self.folder)

    def as_dict(self) -> Values:
        """Return plain values, as a JSON line can carry them."""
        return asdict(self)
