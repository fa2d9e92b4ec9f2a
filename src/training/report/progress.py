"""A progress bar for people at a terminal; in a file or a pipe it draws nothing, the log lines are enough there."""

import sys
from types import TracebackType
from typing import IO, Any

from tqdm import tqdm

_LAYOUT = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed} < {remaining}{postfix}]"


class ProgressBar:
    """One bar over all optimizer steps of a run: epoch, step, time left, samples a second, loss, learning rate.

    Log lines written through ``console.setup_logging`` appear above it whole.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        first_step: int = 0,
        epochs: int = 1,
        stream: IO[str] | None = None,
        is_enabled: bool | None = None,
    ) -> None:
        """Draw the bar if there is somebody to look at it.

        Args:
            total_steps: Optimizer steps of the whole run.
            first_step: Steps already done before a resume.
            epochs: Epochs of the whole run.
            stream: Where to draw; stderr when None.
            is_enabled: False on ranks other than 0; None asks whether the stream is a terminal.
        """
        stream = sys.stderr if stream is None else stream
        self._epochs = epochs
        self._bar: tqdm[Any] | None = None
        if stream.isatty() if is_enabled is None else is_enabled:
            self._bar = tqdm(
                total=total_steps,
                initial=first_step,
                file=stream,
                bar_format=_LAYOUT,
                dynamic_ncols=True,
                mininterval=0.2,
                desc=f"Epoch {min(1, epochs)}/{epochs}",
                leave=True,
            )

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, step: int, *, epoch: int, loss: float | None, lr: float, samples_per_s: float) -> None:
        """Move to a step of a 0-based epoch and show its figures; loss None keeps it unread on the device."""
        if self._bar is None:
            return
        figures = (
            [f"{samples_per_s:,.0f} samples/s"] + ([] if loss is None else [f"loss {loss:.4f}"]) + [f"lr {lr:.2e}"]
        )
        self._bar.set_description_str(f"Epoch {epoch + 1}/{self._epochs}", refresh=False)
        self._bar.set_postfix_str(", ".join(figures), refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands and go to a new line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
