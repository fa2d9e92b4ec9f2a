"""The sections of a report in their order, with what each measures and may take. Imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

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
        place: Module and function that give its findings one by one, from the conditions and the seconds it has.
        is_apart: Whether it starts processes of its own, so that it must hold no device itself.
        about: How its figures came about, for the reader of the report.
    """

    name: str
    title: str
    limit_s: float
    place: str
    is_apart: bool = False
    about: str = ""

    def run(self, conditions: Conditions, limit_s: float) -> Iterator[Finding]:
        """Give its findings; what it is made of loads only now."""
        module, _, name = self.place.partition(":")
        found: Iterator[Finding] = getattr(import_module(f"training.doctor.{module}"), name)(conditions, limit_s)
        return found


#: In the order in which they run; the first makes sure that the device starts.
PARTS = (
    Part(
        "calls",
        "Device calls",
        60,
        "calls:device_calls",
        about="Every question that the project asks of a device, with a call that proves the answer.",
    ),
    Part(
        "error",
        "Error against the CPU",
        100,
        "bench:model_error",
        about="Features, loss and gradients of one batch of 8, the same random weights on both sides, against fp32 on "
        "the CPU. relative_error is the norm of the difference over the norm of what was expected.",
    ),
    Part(
        "attention",
        "Attention, fused and plain",
        60,
        "bench:attention_table",
        about="Forward and backward. fused: what the towers call, the device's own kernel where one is "
        "registered, else torch's; plain: two products and a softmax.",
    ),
    Part("precision", "Autocast and loss scale", 30, "bench:loss_scale"),
    Part(
        "training",
        "Training speed",
        100,
        "bench:training_speed",
        about="One optimizer step on a batch that is on the device: forward, backward, update. The host waits after "
        "each step. tokens/s counts text tokens without padding.",
    ),
    Part(
        "encoding",
        "Encoding speed",
        50,
        "bench:encoding_speed",
        about="Features without gradients. The host waits after each batch.",
    ),
    Part(
        "fine-tuning",
        "Fine-tuning on the shipped set",
        170,
        "fine_tuning:fine_tuning",
        is_apart=True,
        about="The quickstart's recipe through the trainer, from random weights, with its loader. Chance is 0.005 for "
        "image_to_text_R@5 and 0.025 for the others.",
    ),
    Part(
        "all-reduce",
        "All-reduce",
        60,
        "all_reduce:between_cards",
        is_apart=True,
        about="bus GB/s is bytes over time, times 2 (n - 1) / n for n processes.",
    ),
)
