"""What follows when a step's numbers are wrong: count it, go back to a checkpoint, or give up. Judges no number."""

from collections.abc import Callable
from dataclasses import dataclass

from open_clip.errors import NumericsError
from training.loop.guard import Verdict
from training.loop.recorder import Recorder
from training.loop.state import Progress
from training.params import GuardParams


@dataclass(frozen=True)
class StepPlace:
    """Where a step took its batches: 0-based epoch, its first batch there, and the steps of the run up to it."""

    epoch: int
    batch: int
    num_batches: int
    step: int


class RollBackNeeded(Exception):
    """The run must go back to a checkpoint; its text says why."""


class Recovery:
    """Follows the verdicts of all steps and keeps in the progress what a checkpoint must hold of them."""

    def __init__(
        self,
        params: GuardParams,
        progress: Progress,
        recorder: Recorder,
        global_batch: int,
        check_bad_rows: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Follow a run.

        Args:
            params: What to do when.
            progress: Where the run is; its record of skipped steps is kept here.
            recorder: Hears of spikes, skipped steps and rollbacks.
            global_batch: Rows of one batch over all processes.
            check_bad_rows: Raises when all processes together have met too many unusable rows.
        """
        self._params = params
        self._progress = progress
        self._recorder = recorder
        self._global_batch = global_batch
        self._check_bad_rows = check_bad_rows
        self.start()

    def start(self) -> None:
        """Begin to count, where the progress says."""
        self._bad_rows_before = self._progress.bad_rows

    def start_epoch(self) -> None:
        """Count the epoch's unusable rows anew: each row is visited once an epoch, by one process."""
        self._bad_rows_before = self._progress.bad_rows = 0

    @property
    def is_steady(self) -> bool:
        """Whether the last step that is known was a sound one, so that its state is worth a checkpoint."""
        return self._progress.skips_in_a_row == 0

    def is_left_out(self) -> bool:
        """Tell whether a rollback decided to leave out the batches that come next."""
        return [self._progress.epoch, self._progress.batch] in self._progress.left_out

    def take(self, verdict: Verdict, place: StepPlace) -> bool:
        """Follow up one step.

        Returns:
            Whether any process was asked to stop.

        Raises:
            NumericsError: When a number is not finite and the run is to stop at once.
            DataError: When too many rows are unusable.
            RollBackNeeded: When the run must go back.
        """
        progress, params = self._progress, self._params
        progress.bad_rows = self._bad_rows_before + verdict.bad_rows
        self._check_bad_rows(progress.bad_rows)
        if verdict.is_nonfinite and params.on_nonfinite == "stop":
            raise NumericsError(
                f"the loss or its gradient is not finite at step {place.step} (epoch {place.epoch}). Nothing was saved "
                f"since. {_ADVICE}"
            )
        if not verdict.skipped:
            progress.skips_in_a_row = 0
            if verdict.spike:
                self._tell("loss_spike", verdict, place)
            return verdict.stops > 0
        progress.skips_in_a_row += 1
        progress.skipped.append([place.epoch, place.batch])
        self._tell("skipped_step", verdict, place)
        if verdict.spike and params.on_loss_spike == "rollback":
            raise RollBackNeeded(f"the loss rose to {verdict.loss:.5g} at step {place.step}")
        if progress.skips_in_a_row >= params.max_skipped_steps:
            raise RollBackNeeded(f"{progress.skips_in_a_row} steps in a row were skipped up to step {place.step}")
        return verdict.stops > 0

    def check_epoch(self, num_steps: int) -> None:
        """Look back on an epoch of so many steps.

        Raises:
            RollBackNeeded: When it ends in skipped steps that are more than half of it: a short run must not end well
                because it had fewer steps than a streak needs.
        """
        skips = self._progress.skips_in_a_row
        if 2 * skips > num_steps:
            raise RollBackNeeded(f"the last {skips} of the epoch's {num_steps} steps were skipped")

    def roll_back(self, reason: RollBackNeeded, restore: Callable[[], tuple[Progress, str] | None]) -> None:
        """Go back to a checkpoint, and remember to leave out what was skipped since.

        Args:
            reason: Why.
            restore: Puts the newest good checkpoint back and gives its progress and name; None when there is none.

        Raises:
            NumericsError: When the run went back too often, or there is nothing to go back to.
        """
        progress = self._progress
        if progress.rollbacks >= self._params.max_rollbacks:
            raise NumericsError(
                f"{reason}, and the run went back {progress.rollbacks} times already (--max-rollbacks). {_ADVICE}"
            )
        # Noted before the restore: the checkpoint knows nothing of the steps that were taken since.
        left_step, rollbacks = progress.step, progress.rollbacks + 1
        left_out = {tuple(place) for place in (*progress.left_out, *progress.skipped)}
        found = restore()
        if found is None:
            raise NumericsError(
                f"{reason}, and there is no checkpoint to go back to. Start again with a lower --lr, a longer "
                "--warmup, --grad-clip-norm 1.0 or --precision fp32, and --save-every-n-steps to have one."
            )
        saved, path = found
        progress.become(saved)
        progress.rollbacks = rollbacks
        progress.left_out = sorted(list(place) for place in left_out)
        # A streak that a checkpoint was saved in is over: what comes next is judged on its own.
        progress.skips_in_a_row = 0
        self.start()
        self._recorder.rolled_back(
            progress, reason=str(reason), from_step=left_step, path=path, left_out=progress.left_out
        )

    def _tell(self, event: str, verdict: Verdict, place: StepPlace) -> None:
        reasons = {
            "loss": verdict.bad_losses > 0,
            "gradient": verdict.bad_gradients > 0,
            "spike": verdict.spike,
        }
        self._recorder.event(
            event,
            step=place.step,
            epoch=place.epoch,
            batch=place.batch,
            first_sample=place.batch * self._global_batch,
            num_samples=place.num_batches * self._global_batch,
            reason=", ".join(name for name, holds in reasons.items() if holds) or "loss",
            loss=verdict.loss,
        )


_ADVICE = (
    "Go on from the last checkpoint (--resume latest) with a lower --lr, a longer --warmup, --grad-clip-norm 1.0 or "
    "--precision fp32."
)
