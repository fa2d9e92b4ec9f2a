"""Writes a run's figures for TensorBoard under upstream's tags. Keeps nothing: ``metrics.jsonl`` is the record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_clip.errors import MissingDependency
from open_clip.extras import install_advice

# Our record's field: upstream's tag.
_TRAIN_TAGS = {
    "data_time_s": "data_time",
    "step_time_s": "batch_time",
    "samples_per_s": "samples_per_second",
    "samples_per_s_per_device": "samples_per_second_per_gpu",
    "logit_scale": "scale",
    "lr": "lr",
}


def wants_tensorboard(report_to: str) -> bool:
    """Say whether the value of --report-to asks for TensorBoard."""
    return bool({"tensorboard", "all"} & set(report_to.split(",")))


def find_tensorboard() -> Any:
    """Import the class that writes event files.

    Raises:
        MissingDependency: The tensorboard package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependency(
            f"--report-to tensorboard needs the tensorboard package ({error}); "
            f"{install_advice('logging')}, or leave the flag out"
        ) from error
    return SummaryWriter


class TensorBoardWriter:
    """Scalars ``train/*`` by optimizer step and ``val/*`` by completed epoch, ``val_by_step/*`` inside one.

    Source: open_clip 3.3.0 ``train_one_epoch`` and ``evaluate``.
    """

    def __init__(self, log_dir: str | Path, resumed_step: int | None = None) -> None:
        """Open an event file.

        Args:
            log_dir: Folder for event files, usually ``tensorboard/`` of the run.
            resumed_step: Last completed step of a resumed run; what was shown past it is hidden.

        Raises:
            MissingDependency: The tensorboard package is not installed.
        """
        purge_step = None if resumed_step is None else resumed_step + 1
        self._writer: Any = find_tensorboard()(str(log_dir), purge_step=purge_step)

    def write_train(self, record: Mapping[str, object]) -> None:
        """Write the figures of a train record of ``metrics.jsonl``."""
        figures = {tag: record.get(field) for field, tag in _TRAIN_TAGS.items()}
        losses = record.get("losses")
        figures |= losses if isinstance(losses, dict) else {}
        for tag, value in (*figures.items(), ("loss", record.get("loss"))):
            if value is not None:
                self._writer.add_scalar(f"train/{tag}", value, record["step"])

    def write_eval(self, metrics: Mapping[str, float], *, epoch: int, step: int | None = None) -> None:
        """Write the metrics of one evaluation: after an epoch, or after a step inside one."""
        tag, at = ("val", epoch) if step is None else ("val_by_step", step)
        for name, value in metrics.items():
            self._writer.add_scalar(f"{tag}/{name}", value, at)
        self._writer.flush()

    def close(self) -> None:
        """Write out what is still buffered."""
        self._writer.close()
