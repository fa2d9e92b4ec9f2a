"""Reads what the HTML page shows from a run folder; a piece that is missing or damaged is left out, never fatal."""

import itertools
import logging
from dataclasses import dataclass, field
from pathlib import Path

from open_clip.checked_json import numbers_of, read_json
from open_clip.errors import OpenClipError
from training.params import look_into_settings
from training.report.jsonl import Record, iterate_metrics

logger = logging.getLogger(__name__)

Points = list[tuple[float, float]]

MOST_BAD_SAMPLES = 40
_MOST_CURVES = 60
# Fields of a train record that have a curve.
TRAIN_CURVES = ("loss", "lr", "samples_per_s")


@dataclass
class RunFiles:
    """The pieces of a run folder.

    Attributes:
        name: Name of the folder.
        config: Resolved flags.
        runs: One record a start of the run, oldest first.
        curves: Field of the train records: its points (step, value), by rising step.
        losses: Named loss: its points, likewise.
        figures: What the recipe reports beside its losses, by name: its points, likewise.
        last_train: The newest train record.
        evals: Eval records by rising step, one a step.
        events: Event records in the order they happened.
        summary: The summary; empty while the run goes on or when it was killed.
        parts: What each evaluation shows beside its figures, as it lies in the file; by the evaluation's name.
        bad_samples: The first rows that could not be used.
        num_bad_samples: How many those are in all.
    """

    name: str
    config: Record = field(default_factory=dict)
    runs: list[Record] = field(default_factory=list)
    curves: dict[str, Points] = field(default_factory=dict)
    losses: dict[str, Points] = field(default_factory=dict)
    figures: dict[str, Points] = field(default_factory=dict)
    last_train: Record = field(default_factory=dict)
    evals: list[Record] = field(default_factory=list)
    events: list[Record] = field(default_factory=list)
    summary: Record = field(default_factory=dict)
    parts: dict[str, list[Record]] = field(default_factory=dict)
    bad_samples: list[Record] = field(default_factory=list)
    num_bad_samples: int = 0

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the last evaluation, numbers only."""
        found = self.summary.get("metrics") or (self.evals[-1].get("metrics") if self.evals else None)
        return numbers_of(found)


def read_run(run_dir: str | Path) -> RunFiles:
    """Read a run folder."""
    folder = Path(run_dir)
    run = RunFiles(folder.resolve().name)
    run.config = _read_config(folder / "config.yaml")
    run.summary = _read_json(folder / "summary.json")
    run.parts = _read_parts(folder)
    bad = iterate_metrics(folder / "bad_samples.jsonl")
    run.bad_samples = list(itertools.islice(bad, MOST_BAD_SAMPLES))
    run.num_bad_samples = len(run.bad_samples) + sum(1 for _ in bad)
    _read_records(run, folder / "metrics.jsonl")
    return run


def _read_records(run: RunFiles, path: Path) -> None:
    """Sort the records by kind; of two with the same step the later one counts, as a resumed run writes them again."""
    by_step: dict[str, dict[float, float]] = {}
    losses: dict[str, dict[float, float]] = {}
    figures: dict[str, dict[float, float]] = {}
    evals: dict[float, Record] = {}
    for record in iterate_metrics(path):
        kind = record.get("kind")
        numbers = numbers_of(record)
        if kind == "train" and "step" in numbers:
            step = numbers["step"]
            _add_points(by_step, step, {name: numbers[name] for name in TRAIN_CURVES if name in numbers})
            _add_points(losses, step, numbers_of(record.get("losses")))
            scale = {"logit_scale": numbers["logit_scale"]} if "logit_scale" in numbers else {}
            _add_points(figures, step, scale | numbers_of(record.get("figures")))
            run.last_train = record
        elif kind == "eval":
            if "step" in numbers:
                evals[numbers["step"]] = record
        elif kind == "run":
            run.runs.append(record)
        elif kind == "event":
            run.events.append(record)
    run.curves, run.losses, run.figures = map(_sort_points, (by_step, losses, figures))
    run.evals = list(evals.values())


def _add_points(curves: dict[str, dict[float, float]], step: float, values: dict[str, float]) -> None:
    for name, value in values.items():
        # A damaged file may name anything: so many curves are more than a recipe has.
        if name in curves or len(curves) < _MOST_CURVES:
            curves.setdefault(name, {})[step] = value


def _sort_points(curves: dict[str, dict[float, float]]) -> dict[str, Points]:
    return {name: sorted(points.items()) for name, points in curves.items()}


def _read_json(path: Path) -> Record:
    try:
        return record_of(read_json(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s is left out of the report: %s", path, error)
        return {}


def record_of(value: object) -> Record:
    """Give the named values of what lies in a file; none where something else lies there."""
    return {str(name): one for name, one in value.items()} if isinstance(value, dict) else {}


def list_of(value: object) -> list[object]:
    """Likewise the entries of a list."""
    return value if isinstance(value, list) else []


def records_in(value: object) -> list[Record]:
    """Give the entries of a list that are named values."""
    return [record_of(one) for one in list_of(value) if isinstance(one, dict)]


def _read_parts(folder: Path) -> dict[str, list[Record]]:
    """Read what evaluations show; older run folders have a gallery in a file of its own."""
    old = _read_json(folder / "gallery.json")
    found: dict[str, list[Record]] = {"retrieval": [{**old, "kind": "gallery"}]} if old else {}
    evaluations = record_of(_read_json(folder / "evaluations.json").get("evaluations"))
    return found | {name: records_in(record_of(one).get("parts")) for name, one in evaluations.items()}


def _read_config(path: Path) -> Record:
    if not path.is_file():
        return {}
    try:
        return look_into_settings(path)
    except OpenClipError as error:
        logger.warning("%s is left out of the report: %s", path, error)
        return {}
