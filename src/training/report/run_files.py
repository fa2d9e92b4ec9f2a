"""Reads what the HTML page shows from a run folder; a piece that is missing or damaged is left out, never fatal."""

import itertools
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_clip.checked_json import numbers_of, read_json
from open_clip.errors import OpenClipError
from training.params import look_into_settings
from training.report.jsonl import iterate_metrics

logger = logging.getLogger(__name__)

Points = list[tuple[float, float]]

# Fields of a train record that have a curve.
MOST_BAD_SAMPLES = 40
TRAIN_CURVES = ("loss", "lr", "samples_per_s", "logit_scale")


@dataclass
class RunFiles:
    """The pieces of a run folder.

    Attributes:
        name: Name of the folder.
        config: Resolved flags.
        runs: One record a start of the run, oldest first.
        curves: Field of the train records: its points (step, value), by rising step.
        last_train: The newest train record.
        evals: Eval records by rising step, one a step.
        events: Event records in the order they happened.
        summary: The summary; empty while the run goes on or when it was killed.
        parts: What each evaluation shows beside its figures, as it lies in the file; by the evaluation's name.
        bad_samples: The first rows that could not be used.
        num_bad_samples: How many those are in all.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, Points] = field(default_factory=dict)
    last_train: dict[str, Any] = field(default_factory=dict)
    evals: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    bad_samples: list[dict[str, Any]] = field(default_factory=list)
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
    by_step: dict[str, dict[float, float]] = {name: {} for name in TRAIN_CURVES}
    evals: dict[Any, dict[str, Any]] = {}
    for record in iterate_metrics(path):
        kind = record.get("kind")
        numbers = numbers_of(record)
        if kind == "train" and "step" in numbers:
            for name, points in by_step.items():
                if name in numbers:
                    points[numbers["step"]] = numbers[name]
            run.last_train = record
        elif kind == "eval":
            if "step" in numbers:
                evals[numbers["step"]] = record
        elif kind == "run":
            run.runs.append(record)
        elif kind == "event":
            run.events.append(record)
    run.curves = {name: sorted(points.items()) for name, points in by_step.items() if points}
    run.evals = list(evals.values())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        loaded = read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s is left out of the report: %s", path, error)
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _read_parts(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read what evaluations show; older run folders have a gallery in a file of its own."""
    old = _read_json(folder / "gallery.json")
    found: dict[str, list[dict[str, Any]]] = {"retrieval": [{**old, "kind": "gallery"}]} if old else {}
    evaluations = _read_json(folder / "evaluations.json").get("evaluations")
    for name, one in evaluations.items() if isinstance(evaluations, dict) else ():
        parts = one.get("parts") if isinstance(one, dict) else None
        if isinstance(parts, list):
            found[str(name)] = [part for part in parts if isinstance(part, dict)]
    return found


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return look_into_settings(path)
    except OpenClipError as error:
        logger.warning("%s is left out of the report: %s", path, error)
        return {}
