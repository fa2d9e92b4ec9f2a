"""The figures that end a run: step times, ``summary.json`` and the block printed last. Measures no step itself."""

import re
import shutil
import textwrap
from collections import deque
from collections.abc import Mapping
from typing import TypedDict

from training.report.recall import RECALL_AT, RECALL_ROWS, chance_levels

WINDOW = 100
_WIDEST = 80
# The recall table needs so much: its longest label and three columns of figures.
_NARROWEST = 52
# Names of accuracies: the set of classes, and within how many of the best the right class counts.
TOP_K = re.compile(r"(?P<set>.+)-top(?P<k>\d+)")
_LABEL_WIDTH = {False: 12, True: 10}  # by whether the block is narrow


class Summary(TypedDict, total=False):
    """What ``summary.json`` holds of a run that ended."""

    status: str  # finished, stopped or failed
    fps: float | None  # samples a second of all devices, over the last hundred steps
    fps_all_steps: float | None
    steps: int
    epochs: int  # completed
    train_time_s: float  # wall seconds of all steps
    e2e_time_s: float  # wall seconds since the command started
    loss: float | None  # running average of the last epoch, as the last training line shows it in parentheses
    last_loss: float | None
    metrics: dict[str, float]  # of the last evaluation
    device: str  # as people say it
    world_size: int
    global_batch: int
    checkpoint: str | None  # path of the newest
    report: str | None  # path of the page
    text_shapes: list[tuple[int, int]]
    skipped_steps: int
    rollbacks: int
    steps_left_out: int
    is_resumed: bool
    evaluates: bool


class StepTimes:
    """Wall seconds of optimizer steps: the last hundred for the throughput, and totals.

    Source: Ascend ModelZoo's fine-tune scripts take the mean of the last 100 step times.
    """

    def __init__(self, global_batch: int) -> None:
        self.global_batch = global_batch
        self.num_steps = 0
        self.total_s = 0.0
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def add(self, seconds: float, count: int = 1) -> None:
        """Count so many steps of equal length."""
        self.num_steps += count
        self.total_s += seconds * count
        self._recent.extend([seconds] * min(count, WINDOW))

    def fps(self) -> float | None:
        """Give the samples a second of all devices over the last hundred steps; None before the first."""
        recent_s = sum(self._recent)
        return self.global_batch * len(self._recent) / recent_s if recent_s > 0 else None

    def fps_all_steps(self) -> float | None:
        """Give the samples a second of all devices over every step, the slow first ones included."""
        return self.global_batch * self.num_steps / self.total_s if self.total_s > 0 else None


def format_summary(summary: Summary, columns: int | None = None) -> str:
    """Write the block that ends a run, in 80 columns or in fewer; a long path may stand out at the right.

    Both recall definitions are shown with the number of images and texts and what chance would reach.

    Args:
        summary: Content of ``summary.json``.
        columns: Width to keep within; that of the terminal when None. Lines break between words only.
    """
    width = max(_NARROWEST, min(_WIDEST, columns or shutil.get_terminal_size((_WIDEST, 24)).columns))
    title = f" Run {summary.get('status', 'ended')} "
    lines = [title.center(width, "-"), ""]
    facts = [("Device", f"{summary.get('world_size') or 1} x {summary.get('device', '?')}")]
    if summary.get("steps"):
        facts += [("Throughput", _throughput(summary)), ("Loss", _losses(summary))]
    facts.append(("Time", _times(summary)))
    if summary.get("steps"):
        facts.append(("Steps", _steps(summary)))
    for name, value in facts:
        lines += _wrap(_fact(name, value, width), width, _LABEL_WIDTH[width < _WIDEST] + 3)
    lines.append("")
    metrics = summary.get("metrics") or {}
    if metrics:
        lines += [*_accuracy_facts(metrics, width), *_recall_table(metrics, width)]
    else:
        advice = "it ended before the first" if summary.get("evaluates") else "give --val-data to measure retrieval"
        lines += [*_wrap(f"  No evaluation in this run ({advice}).", width, 2), ""]
    for name, path in (("Checkpoint", summary.get("checkpoint")), ("Report", summary.get("report"))):
        if path:
            lines.append(_fact(name, path, width))
    return "\n".join([*lines, "-" * width])


def format_duration(seconds: float) -> str:
    """Write seconds as people say them: ``12.3 s``, ``4 min 05 s``, ``2 h 07 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60):02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _fact(name: str, value: str, width: int) -> str:
    return f"  {name:<{_LABEL_WIDTH[width < _WIDEST]}} {value}"


def _wrap(text: str, width: int, indent: int) -> list[str]:
    """Break a line between words where it is too long; what follows is indented."""
    if len(text) <= width:
        return [text]
    lead = len(text) - len(text.lstrip())
    return textwrap.wrap(
        text.lstrip(),
        width,
        initial_indent=" " * lead,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def describe_wall_time(summary: Mapping[str, object]) -> str:
    """Say what the wall time of a run is counted from; step times count from its first start."""
    return "since the last start" if summary.get("is_resumed") else "in all"


def describe_window(steps: int) -> str:
    """Say which steps the throughput of a run is taken over."""
    return f"the last {WINDOW} steps" if steps > WINDOW else "all steps"


def _throughput(summary: Summary) -> str:
    recent = f"{_number(summary.get('fps'), ',.1f')} samples/s over {describe_window(summary['steps'])}"
    if summary["steps"] <= WINDOW:
        return recent
    return f"{recent}, {_number(summary.get('fps_all_steps'), ',.1f')} over all"


def _losses(summary: Summary) -> str:
    mean, last = _number(summary.get("loss"), ".4f"), _number(summary.get("last_loss"), ".4f")
    return f"{mean} mean of the last epoch, {last} last step"


def _times(summary: Summary) -> str:
    spent = summary.get("train_time_s") or 0
    in_steps = f"{format_duration(spent)} in training steps, " if summary.get("steps") else ""
    return f"{in_steps}{format_duration(summary.get('e2e_time_s') or 0)} {describe_wall_time(summary)}"


def _steps(summary: Summary) -> str:
    epochs = summary.get("epochs", 0)
    return f"{summary['steps']} in {epochs} complete epoch{'' if epochs == 1 else 's'}"


def _accuracy_facts(metrics: Mapping[str, float], width: int) -> list[str]:
    """Write a line for each set of classes; of few classes there is no top-5."""
    sets: dict[str, list[str]] = {}
    for name, value in metrics.items():
        found = TOP_K.fullmatch(name)
        if found:
            sets.setdefault(found["set"], []).append(f"top-{found['k']} {100 * value:.1f} %")
    kinds = {stem: "Zero-shot" if "zeroshot" in stem else "Accuracy" for stem in sets}
    return [_fact(kinds[stem], f"{stem}: {', '.join(figures)}", width) for stem, figures in sets.items()]


def _recall_table(metrics: Mapping[str, float], width: int) -> list[str]:
    """Lay out the four rows of recall in per cent, each with its chance level."""
    rows = [row for row in RECALL_ROWS if any(value is not None for value in row.values(metrics))]
    if not rows:
        # Of a recipe that measures something else, that.
        others = [name for name in metrics if name not in ("epoch", "step") and not TOP_K.fullmatch(name)]
        return [*(_fact(name, f"{metrics[name]:.4f}", width) for name in others), ""]
    num_images, num_texts = metrics.get("num_images", 0), metrics.get("num_texts", 0)
    head = f"Retrieval in %: {num_images:,.0f} images, {num_texts:,.0f} texts"
    is_narrow = width < _WIDEST
    cell = 7 if is_narrow else 8
    room = min(_WIDEST - 2, width) - cell * len(RECALL_AT)
    names = "".join(f"{f'R@{k}':>{cell}}" for k in RECALL_AT)
    lines = [f"  {head}", " " * room + names] if is_narrow else [f"  {head:<{room - 2}}{names}"]
    for row in rows:
        label = f"    {row.direction}, {row.definition}"
        cells = ("-" if one is None else f"{100 * one:.1f}" for one in row.values(metrics))
        lines.append(f"{label:<{room}}" + "".join(f"{one:>{cell}}" for one in cells))
        if num_images and num_texts:
            chance = chance_levels(row, num_images, num_texts)
            lines.append(f"{'      chance':<{room}}" + "".join(f"{100 * one:>{cell}.1f}" for one in chance))
    for note in (
        "    one to one: only the row's own caption is right (the trainer's usual figure)",
        "    any caption: any caption of the image is right (benchmarks and papers)",
    ):
        lines += _wrap(note, width, 6)
    return [*lines, ""]
