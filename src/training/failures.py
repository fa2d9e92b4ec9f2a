"""Give failures that libraries raise anywhere in a run the project's own words and exit status."""

import contextlib
from collections.abc import Iterator

from open_clip.errors import DataError, DeviceError, OpenClipError, first_line
from training.device import Device
from training.loop import phase_of
from training.params import RunParams

_WHILE = {
    "data": "while a batch was brought to it",
    "forward": "in the forward pass",
    "backward": "in the backward pass",
    "optimizer": "in the optimizer step",
    "save": "while a checkpoint was saved",
    "evaluation": "in the evaluation",
}


@contextlib.contextmanager
def explain_failures(device: Device, params: RunParams) -> Iterator[None]:
    """Turn a worker's death and memory that ran out into errors that say what to do.

    Raises:
        DataError: A data worker died.
        DeviceError: Memory ran out; names the phase, the batch size, the precision and three ways out.
    """
    try:
        yield
    except OpenClipError:
        raise
    except Exception as error:
        if first_line(error).startswith("DataLoader worker"):
            # torch tells of a dead worker from a signal handler: between any two lines of the main process.
            raise DataError(
                f"a data worker process died: {first_line(error)}. It was killed from outside, or memory or "
                "/dev/shm ran out. Go on with --resume latest, with fewer --workers if it happens again."
            ) from error
        if device.is_out_of_memory(error):
            raise DeviceError(explain_memory(error, params)) from error
        raise


def explain_memory(error: BaseException, params: RunParams) -> str:
    """Say where memory ran out, with which settings, and what to change."""
    phase = phase_of(error)
    where = _WHILE.get(phase, f"in phase {phase}") if phase else "before training began"
    accumulated = f" x --accum-freq {params.optim.accum_freq}" if params.optim.accum_freq > 1 else ""
    return (
        f"the device ran out of memory {where}, at --batch-size {params.data.batch_size}{accumulated}, --precision "
        f"{params.hardware.precision}: {' '.join(str(error).split())[:200]}.\n"
        "Lower --batch-size and raise --accum-freq to keep the global batch, add --grad-checkpointing, or use "
        "--precision amp_bf16. A run with checkpoints goes on with --resume latest; inside an epoch that needs the old "
        "global batch and --accum-freq."
    )
