"""A progress bar for people at a terminal; in a file or a pipe it draws nothing, the log lines are enough there."""

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import IO, Any

from tqdm import tqdm

# From the widest to the narrowest; the names in braces that tqdm does not fill are figures of the last step.
_LAYOUTS = (
    "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed} < {remaining}{rate_part}{loss_part}{lr_part}]",
    "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed} < {remaining}{rate_part}{loss_part}]",
    "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed} < {remaining}{loss_part}]",
    "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [< {remaining}{loss_part}]",
    "{desc} {percentage:3.0f}% |{bar}| [< {remaining}{loss_part}]",
    "{percentage:3.0f}% |{bar}| [< {remaining}{loss_part}]",
)
_LEAST_CELLS = 10


class _FittedBar(tqdm):  # type: ignore[misc]
    """Leaves out figures, the least wanted first, until the bar itself has room in the terminal's width."""

    figures: Mapping[str, str] = MappingProxyType({})
    _layout = 0
    _fitted_width: int | None = None

    @property
    def format_dict(self) -> Any:
        """Choose the layout whenever tqdm draws: a terminal may change its width at any time."""
        values = super().format_dict
        width = values["ncols"]
        if width != self._fitted_width:
            self._fitted_width, self._layout = width, 0
        # What was left out stays out at this width, so that a rate of 999, then 1,000 does not make the line flicker.
        while width and self._layout < len(_LAYOUTS) - 1:
            text = tqdm.format_meter(**{**values, "ncols": None, "bar_format": self._fill().replace("{bar}", "")})
            if width - len(text) >= _LEAST_CELLS:
                break
            self._layout += 1
        values["bar_format"] = self._fill()
        return values

    def _fill(self) -> str:
        layout = _LAYOUTS[self._layout]
        for name in ("rate", "loss", "lr"):
            text = self.figures.get(name)
            layout = layout.replace(f"{{{name}_part}}", f", {text}" if text else "")
        return layout


class ProgressBar:
    """One bar over all optimizer steps of a run: epoch, step, time left, samples a second, loss, learning rate.

    Log lines written through ``console.setup_logging`` appear above it whole. Below about 100 columns it leaves out the
    learning rate, then the samples a second, then the times; the loss stays.
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
        self._bar: _FittedBar | None = None
        if stream.isatty() if is_enabled is None else is_enabled:
            self._bar = _FittedBar(
                total=total_steps,
                initial=first_step,
                file=stream,
                dynamic_ncols=True,
                mininterval=0.2,
                desc=f"Epoch {min(1, epochs)}/{epochs}",
                leave=True,
            )

    def update(self, step: int, *, epoch: int, loss: float | None, lr: float, samples_per_s: float) -> None:
        """Move to a step of a 0-based epoch and show its figures; loss None keeps it unread on the device."""
        if self._bar is None:
            return
        self._bar.figures = {**self._bar.figures, "rate": f"{samples_per_s:,.0f} samples/s", "lr": f"lr {lr:.2e}"}
        self.show_loss(loss)
        self._bar.set_description_str(f"Epoch {epoch + 1}/{self._epochs}", refresh=False)
        self._bar.update(step - self._bar.n)

    def show_loss(self, loss: float | None) -> None:
        """Show a loss from the next drawing on; the drawing at the end counts, so the last one given stays."""
        if self._bar is not None and loss is not None:
            self._bar.figures = {**self._bar.figures, "loss": f"loss {loss:.4f}"}

    def close(self) -> None:
        """Leave the bar as it stands and go to a new line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
