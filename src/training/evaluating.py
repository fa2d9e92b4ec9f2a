"""When a run evaluates and what it does with the result; how metrics are computed is `evaluate`'s."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from PIL import Image

from open_clip.errors import DataError
from training.assembly import Parts, Place, evaluation_shapes, make_receive
from training.data import EvalLoader, Source, read_image, read_text, sample_seed
from training.distributed import broadcast_object
from training.evaluate import Evaluation, build_gallery, evaluate_pairs, on_whole_model
from training.journal import Journal
from training.loop import Hook, Moment, Progress
from training.params import RunParams


class Evaluator(Hook):
    """Evaluates a run where that is due; every process calls it, the master tells the journal."""

    def __init__(self, params: RunParams, place: Place, parts: Parts, progress: Progress, journal: Journal) -> None:
        self._params = params
        self._place = place
        self._parts = parts
        self._progress = progress
        self._journal = journal

    def is_missing(self, resumed_from: Path | None) -> bool:
        """Tell whether a run was cut off between the save and the evaluation of an epoch."""
        progress = self._progress
        if resumed_from is None or progress.epoch == 0 or progress.batch or not self._is_due():
            return False
        seen = self._journal.has_evaluation(progress.epoch) if self._place.world.is_master else False
        return not broadcast_object(seen, self._place.world)

    def evaluate(self, moment: Moment) -> None:
        """Measure what the flags ask for after this epoch."""
        if self._is_due():
            self.evaluate_now()

    def evaluate_now(self) -> None:
        """Measure what is due, with the averaged weights where the run keeps them.

        A run that only evaluates measures all it has.
        """
        average = self._parts.task.average
        with contextlib.nullcontext() if average is None else average.in_place(), on_whole_model(self._parts.task):
            self._measure()

    def _measure(self) -> None:
        parts, only = self._parts, self._parts.train_loader is None
        started = time.monotonic()
        metrics: dict[str, float] = {}
        evaluation = None
        if parts.eval_loader is not None and (only or self._pairs_are_due()):
            evaluation = self._evaluate_pairs(parts.eval_loader)
            metrics |= evaluation.metrics
        if parts.zero_shot is not None and (only or self._zero_shot_is_due()):
            metrics |= parts.zero_shot.evaluate(
                parts.task,
                world=self._place.world,
                autocast=parts.mixed.autocast,
            )
        if not self._place.world.is_master or not metrics:
            return
        self._journal.evaluation(metrics, time.monotonic() - started)
        if evaluation is not None:
            self._show_examples(evaluation)

    def _is_due(self) -> bool:
        return self._pairs_are_due() or self._zero_shot_is_due()

    def _pairs_are_due(self) -> bool:
        return self._parts.eval_loader is not None and self._falls_on(self._params.evaluate.val_frequency)

    def _zero_shot_is_due(self) -> bool:
        return self._parts.zero_shot is not None and self._falls_on(self._params.evaluate.zeroshot_frequency)

    def _falls_on(self, every: int) -> bool:
        epoch = self._progress.epoch
        return every > 0 and (epoch == self._params.schedule.epochs or epoch % every == 0)

    def _evaluate_pairs(self, loader: EvalLoader) -> Evaluation:
        world = self._place.world
        return evaluate_pairs(
            self._parts.task,
            loader,
            make_receive(self._place, self._parts.eval_quarantine),
            world=world,
            global_batch=self._params.data.batch_size * world.world_size,
            autocast=self._parts.mixed.autocast,
            shapes=evaluation_shapes(self._params, self._place),
        )

    def _show_examples(self, evaluation: Evaluation) -> None:
        table, rows = self._parts.eval_table, evaluation.rows.tolist()
        assert table is not None
        if not self._params.evaluate.gallery_size:
            return
        self._journal.gallery = build_gallery(
            evaluation.image_features,
            evaluation.text_features,
            evaluation.image_ids,
            _ScoredCaptions(table, rows, self._params.hardware.seed),
            lambda place: _open_image(table, rows[place], self._params.data.max_image_pixels),
            count=self._params.evaluate.gallery_size,
        )


class _ScoredCaptions(Sequence[str]):
    """The captions of some rows, read when one is asked for: a gallery shows few of them."""

    def __init__(self, table: Source, rows: list[int], seed: int) -> None:
        self._table = table
        self._rows = rows
        self._seed = seed

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        # The seed that evaluation drew with: of several captions the one that was scored.
        return read_text(self._table, self._rows[place], sample_seed(self._seed, 0, self._rows[place]))


def _open_image(table: Source, row: int, max_pixels: int) -> tuple[str, Image.Image | None]:
    name = Path(table.image_path(row)).name
    try:
        return name, read_image(table, row).open(max_pixels)
    except DataError:
        return name, None
