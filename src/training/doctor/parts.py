"""The sections of a report in their order, with what each may take. Imports no torch: the names load where they run."""

from collections.abc import Callable, Iterator
from importlib import import_module

from training.doctor.conditions import Conditions, Part
from training.doctor.findings import Finding


def _lazily(place: str) -> Callable[[Conditions, float], Iterator[Finding]]:
    """Give a function that finds its own module when it is called."""
    module, _, name = place.partition(":")

    def run(conditions: Conditions, limit_s: float) -> Iterator[Finding]:
        found: Iterator[Finding] = getattr(import_module(f"training.doctor.{module}"), name)(conditions, limit_s)
        return found

    return run


def _all_reduce(conditions: Conditions, limit_s: float) -> Iterator[Finding]:
    from training.device import select_device
    from training.doctor.all_reduce import all_reduce_findings

    return all_reduce_findings(select_device(conditions.device), conditions.row_seconds / 2, limit_s)


#: In the order in which they run; the first makes sure that the device starts.
PARTS = (
    Part(
        "calls",
        "Device calls",
        60,
        _lazily("calls:device_calls"),
        about="Every question that the project asks of a device, with a call that proves the answer.",
    ),
    Part(
        "error",
        "Error against the CPU",
        100,
        _lazily("bench:model_error"),
        about="Features, loss and gradients of one batch of 8, the same random weights on both sides, against fp32 on "
        "the CPU. relative_error is the norm of the difference over the norm of what was expected.",
    ),
    Part(
        "attention",
        "Attention, fused and plain",
        60,
        _lazily("bench:attention_table"),
        about="Forward and backward. fused: what the towers call, the device's own kernel where one is "
        "registered, else torch's; plain: two products and a softmax.",
    ),
    Part("precision", "Autocast and loss scale", 30, _lazily("bench:loss_scale")),
    Part(
        "training",
        "Training speed",
        100,
        _lazily("bench:training_speed"),
        about="One optimizer step on a batch that is on the device: forward, backward, update. The host waits after "
        "each step. tokens/s counts text tokens without padding.",
    ),
    Part(
        "encoding",
        "Encoding speed",
        50,
        _lazily("bench:encoding_speed"),
        about="Features without gradients. The host waits after each batch.",
    ),
    Part(
        "fine-tuning",
        "Fine-tuning on the shipped set",
        170,
        _lazily("fine_tuning:fine_tuning"),
        is_apart=True,
        about="The quickstart's recipe through the trainer, from random weights, with its loader. Chance is 0.005 for "
        "image_to_text_R@5 and 0.025 for the others.",
    ),
    Part(
        "all-reduce",
        "All-reduce",
        60,
        _all_reduce,
        is_apart=True,
        about="bus GB/s is bytes over time, times 2 (n - 1) / n for n processes.",
    ),
)
