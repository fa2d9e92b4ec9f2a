"""A fine-tuning of the shipped set through the trainer, started as a user would, with the recall that it reaches."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import open_clip
from open_clip.checked_json import read_json, read_json_lines
from training.doctor.findings import Answer, Finding, latency_cells
from training.doctor.parts import Conditions
from training.doctor.processes import Ended, run_program

#: The quickstart's recipe, whose recall on the CPU stands in the README.
_MODEL, _EPOCHS = "ViT-tiny-16-64", 5
_ROOT = Path(open_clip.__file__).resolve().parents[2]
_SET = _ROOT / "examples" / "flickr30k-emoji"
_SPLITTER = _ROOT / "tools" / "flickr30k_handle.py"
_WHAT = f"{_MODEL}, {_EPOCHS} epochs"
# Start, saving on request and evaluation come on top of the time it trains.
_START_S = 45.0
_GRACE_S = 45.0
_LEAST_S = 10.0
_SPLIT_LIMIT_S = 30.0
_STOPPED = 75
_METRICS = ("image_to_text_R@5", "text_retrieval_recall@5", "image_retrieval_recall@5")


def fine_tuning(conditions: Conditions, limit_s: float) -> Iterator[Finding]:
    """Train for the time of the conditions or to the end of the recipe, and evaluate what is there then."""
    if not (_SET.is_dir() and _SPLITTER.is_file()):
        why = "examples/flickr30k-emoji stands beside the sources only: run the doctor in a clone of the project"
        yield Finding(_WHAT, state="not tried", why=why)
        return
    with tempfile.TemporaryDirectory(prefix="doctor-") as name:
        folder = Path(name)
        ended = _split(folder / "data")
        if ended.status != 0:
            yield Finding(_WHAT, state="failed", why=f"splitting the set {ended.describe()}")
            return
        yield from _train(conditions, folder, time.monotonic() + limit_s)


def _split(data: Path) -> Ended:
    data.mkdir()
    for entry in ("flickr30k-images", "results_20130124.token"):
        (data / entry).symlink_to(_SET / entry)
    return run_program([str(_SPLITTER), "--data_path", str(data)], _SPLIT_LIMIT_S)


def _train(conditions: Conditions, folder: Path, ends: float) -> Iterator[Finding]:
    workers = str(max(1, min(4, (os.cpu_count() or 2) - 1)))
    batch = conditions.recipe_batch
    recipe = ["--train-data", str(folder / "data"), "--val-data", str(folder / "data"), "--batch-size", str(batch)]
    recipe += ["--epochs", str(_EPOCHS), "--lr", "1e-3", "--wd", "0.1", "--warmup", "50", "--workers", workers]
    recipe += ["--val-frequency", str(_EPOCHS), "--save-frequency", "0", "--log-every-n-steps", "1"]
    run = folder / "trained"
    ended = run_program(
        _trainer(conditions, folder, "trained", recipe),
        min(conditions.seconds, (ends - time.monotonic()) / 2),
        grace_s=_GRACE_S,
        start_s=_START_S,
        has_begun=lambda: bool(_steps(_records(run))),
    )
    records = _records(run)
    steps = [record["step_time_s"] for record in _steps(records)]
    if ended.status not in (0, _STOPPED, None) or not steps:
        yield Finding(_WHAT, state="failed", why=ended.describe("ERROR | "))
        return
    # The first step makes memory and kernels.
    settled = steps[1:] or steps
    start = next(record for record in records if record.get("kind") == "run")
    total = _EPOCHS * int(start["train"]["num_batches"])
    yield Finding(
        f"training: {len(steps)} of {total} steps, precision {start['precision']['effective']}",
        {"batch": str(batch), **latency_cells(settled, batch), "loss": f"{_steps(records)[-1]['loss']:.4f}"},
    )
    summary = _summary(run)
    if not summary.get("metrics"):
        saved = sorted((run / "checkpoints").glob("epoch_*.pt"), key=lambda path: path.stat().st_mtime)
        if not saved:
            why = f"the trainer had not saved {_GRACE_S:.0f} s after it was asked to stop"
            yield Finding("evaluation", state="failed", why=why)
            return
        summary, ended = _evaluate(conditions, folder, saved[-1], ends)
    if not summary.get("metrics"):
        yield Finding("evaluation", state="failed", why=ended.describe("ERROR | "))
        return
    yield Finding("evaluation", {name: f"{summary['metrics'][name]:.3f}" for name in _METRICS})


def _records(run: Path) -> list[Answer]:
    """Read what a run has recorded until now."""
    path = run / "metrics.jsonl"
    return [record for _, record in read_json_lines(path) if record] if path.is_file() else []


def _steps(records: list[Answer]) -> list[Answer]:
    return [record for record in records if record.get("kind") == "train"]


def _evaluate(conditions: Conditions, folder: Path, weights: Path, ends: float) -> tuple[Answer, Ended]:
    """Evaluate the checkpoint that a stopped training left."""
    words = ["--val-data", str(folder / "data"), "--workers", "1", "--pretrained", str(weights)]
    left_s = max(ends - time.monotonic(), _LEAST_S)
    ended = run_program(_trainer(conditions, folder, "evaluated", words), left_s)
    return (_summary(folder / "evaluated") if ended.status == 0 else {}), ended


def _trainer(conditions: Conditions, folder: Path, name: str, words: list[str]) -> list[str]:
    own = ["--model", _MODEL, "--device", conditions.device, "--logs-dir", str(folder), "--name", name]
    return ["-m", "training.main", *own, "--gallery-size", "0", *words]


def _summary(run: Path) -> Answer:
    try:
        return dict(read_json(run / "summary.json"))
    except (OSError, ValueError):
        return {}
