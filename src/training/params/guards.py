"""Flags of what a run does when its numbers go wrong."""

from dataclasses import dataclass

from training.params.flags import flag
from training.params.values import whole


@dataclass(frozen=True)
class GuardParams:
    """Guards."""

    on_nonfinite: str = flag(
        "skip",
        "when a loss or a gradient is not finite: skip leaves the update out on all processes, stop ends the run with"
        " status 5",
        choices=("skip", "stop"),
    )
    on_loss_spike: str = flag(
        "warn",
        "when a loss lies 6 standard deviations above the last 128: warn, skip the update, rollback to the newest"
        " checkpoint and leave the batch out, or off",
        choices=("warn", "skip", "rollback", "off"),
    )
    max_skipped_steps: int = flag(
        8, "optimizer steps skipped in a row that make the run go back to its newest checkpoint", type=whole(1)
    )
    max_rollbacks: int = flag(2, "times a run goes back to a checkpoint before it gives up with status 5", type=whole())

    @property
    def skips_updates(self) -> bool:
        """Whether any guard leaves updates out."""
        return self.on_nonfinite == "skip" or self.on_loss_spike in ("skip", "rollback")
