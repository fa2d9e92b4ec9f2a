"""When a run evaluates and what it does with the result; how something is measured is `evaluate`'s."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from open_clip.errors import ConfigError
from open_clip.files import make_folder, write_whole
from training.assembly import Parts, Place
from training.distributed import broadcast_object
from training.evaluate import Evaluation, Occasion, Part, ready_to_measure
from training.journal import Journal
from training.loop import Hook, Moment, Progress, Wants

_LOG = logging.getLogger(__name__)


class Evaluator(Hook):
    """Measures whatever of a run's evaluations is due; every process calls it, the master tells the journal."""

    def __init__(self, place: Place, parts: Parts, progress: Progress, journal: Journal) -> None:
        self._place = place
        self._parts = parts
        self._progress = progress
        self._journal = journal

    def is_missing(self, resumed_from: Path | None) -> bool:
        """Tell whether a run was cut off between a save and the evaluation of the same epoch or step."""
        epoch, step = self._progress.epoch, self._progress.step
        has_begun = epoch > 0 or step > 0
        if resumed_from is None or not has_begun or not self._due(self._here()):
            return False
        seen = self._journal.has_evaluation(epoch, step) if self._place.world.is_master else False
        return not broadcast_object(seen, self._place.world)

    def step_done(self, step: int) -> Wants:
        """Ask for an evaluation where one is due by steps."""
        due = self._due(Occasion(self._progress.epoch, step, ends_epoch=False, is_last=False))
        return Wants.EVALUATION if due else Wants.NOTHING

    def evaluate(self, moment: Moment) -> None:
        """Measure what is due."""
        due = self._due(self._here())
        if due:
            self._measure(due)

    def evaluate_now(self) -> None:
        """Measure what is due at the point that a run goes on from; a run that only evaluates measures all it has.

        Raises:
            ConfigError: It only evaluates, and has nothing to measure.
        """
        is_alone = self._parts.train_loader is None
        if is_alone and not self._parts.evaluations:
            raise ConfigError(
                f"there is nothing to measure: the recipe {self._parts.task.name} offers no evaluation for the data "
                "given. Give --val-data FILE of rows that it measures on, or choose another --task."
            )
        self._measure(self._parts.evaluations if is_alone else self._due(self._here()))

    def _measure(self, evaluations: Sequence[Evaluation]) -> None:
        """Measure with the averaged weights where the run keeps them."""
        task, started = self._parts.task, time.monotonic()
        metrics: dict[str, float] = {}
        parts: dict[str, tuple[Part, ...]] = {}
        files: dict[str, str] = {}
        with contextlib.ExitStack() as around:
            for average in (task.average, task.own_average):
                if average is not None:
                    around.enter_context(average.in_place())
            around.enter_context(ready_to_measure(task))
            for one in evaluations:
                found = one.measure(task)
                metrics |= found.metrics
                parts[one.name] = found.parts
                files |= found.files
        if self._place.world.is_master and metrics:
            self._journal.evaluation(metrics, parts, time.monotonic() - started)
            _keep_files(self._place.folder.results, files)

    def _due(self, occasion: Occasion) -> list[Evaluation]:
        return [one for one in self._parts.evaluations if one.is_due(occasion)]

    def _here(self) -> Occasion:
        progress, length = self._progress, self._parts.length
        # A run is at batch 0 only where it starts and where an epoch has ended.
        ends_epoch = progress.batch == 0
        is_last = length is not None and length.is_reached(progress.epoch, progress.step)
        return Occasion(progress.epoch, progress.step, ends_epoch, is_last)


def _keep_files(folder: Path | None, files: Mapping[str, str]) -> None:
    """Write what evaluations leave beside their figures; a full disk costs the files and not the run."""
    if folder is None or not files:
        return
    try:
        make_folder(folder)
        for name, text in files.items():
            write_whole(folder / name, text)
    except OSError as error:
        _LOG.error("%s: %s. metrics.jsonl has the figures.", folder, error.strerror or error)
