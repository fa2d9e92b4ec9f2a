"""What a row must offer the process of one side. Names no model and no data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from benchmarks.equality import Answers, Rule
from benchmarks.settings import Settings, Side, Values


class Row(ABC):
    """One thing that both sides do, in the process of one side.

    Attributes:
        unit: What a round counts, in the plural.
        rules: What must hold for each group of answers.
        sizes: How large the work is; the settings may replace any of them.
        tiny: The sizes of the tests.
        input_names: Files of inputs that it reads, by the names of ``inputs.py``.
    """

    unit: ClassVar[str]
    rules: ClassVar[Mapping[str, Rule]]
    sizes: ClassVar[Values] = {}
    tiny: ClassVar[Values] = {}

    def __init__(self, side: Side, settings: Settings, options: Values) -> None:
        self.side = side
        self.settings = settings
        self.options = options
        known = {**self.sizes, **options}
        self.size: Values = {
            **known,
            **{name: value for name, value in settings.sizes.items() if name in known},
        }

    @abstractmethod
    def prepare(self) -> Values:
        """Make inputs and models; return what a reader must know of them."""

    @abstractmethod
    def check(self) -> Answers:
        """Do the work once, untimed, and give what both sides must agree on; it warms up too."""

    @abstractmethod
    def round(self, number: int) -> int:
        """Do the timed work of a round; return how many units were done."""

    def warm_up(self) -> None:  # noqa: B027  most rows need none
        """Do what must not be timed, after the check."""

    def measured_round(self) -> dict[str, float]:
        """Give the seconds of the last round where the row measures itself, in processes that it starts."""
        return {}

    def close(self) -> None:  # noqa: B027  most rows start nothing
        """Stop what the row has started."""
