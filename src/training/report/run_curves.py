"""The curves of the HTML page: losses and figures over the steps, metrics over the evaluations. Reads no file."""

import re
from collections.abc import Sequence

from open_clip.checked_json import numbers_of
from training.report.curves import Series, format_value, line_chart
from training.report.markup import escape, percent, section
from training.report.recall import DIRECTIONS, ONE_TO_ONE, RECALL_ROWS
from training.report.run_files import Points, RunFiles
from training.report.series import smooth

# With fewer points than this the smoothed line would be the line itself.
_SMOOTH_FROM = 100
# Share by which a loss must have risen.
_WORTH_A_WORD = 0.01
_MOST_CHARTS = 60
# Metrics that belong in one chart: shares within the k best, and the two figures of a rank.
_WITHIN = re.compile(r"(?P<stem>.+?)_?(?P<label>(?:R|recall)@\d+|-?top-?\d+)")
_RANK = re.compile(r"(?P<stem>.+)_(?P<label>mean|median)_rank")
_STEMS = {row.key.partition("@")[0].removesuffix("_R").removesuffix("_recall"): row for row in RECALL_ROWS}
_TITLES = {"clip_val_loss": "Validation loss", "lr": "Learning rate"}
_STYLES = ("main", "second", "third", "faint")


def training_curves(run: RunFiles) -> str:
    """Draw all losses, throughput, learning rate and what else the recipe reports over the steps."""
    total = run.curves.get("loss", [])
    # A single loss is the sum itself.
    named = {name: points for name, points in run.losses.items() if len(run.losses) > 1 or points != total}
    charts = [
        _step_chart("Loss", total, is_noisy=True),
        *(_step_chart(_title(name), points, is_noisy=True) for name, points in named.items()),
        _step_chart("Throughput, samples/s", run.curves.get("samples_per_s", []), is_noisy=True, y_from_zero=True),
        _step_chart("Learning rate", run.curves.get("lr", []), is_noisy=False, y_from_zero=True),
        *(_step_chart(_title(name), points, is_noisy=False) for name, points in run.figures.items()),
    ]
    return section("curves", "Training", _side_by_side(charts))


def evaluation_curves(run: RunFiles) -> str:
    """Draw every metric over the epochs, or over the steps where a run evaluates inside them; one point is no curve."""
    if len(run.evals) < 2:
        return ""
    x_name = _x_name(run)
    charts = []
    for title, labels, is_share in _charts_of(run):
        styles = ("third", "main", "second") if len(labels) == 3 else _STYLES
        series = [
            Series(label, _metric_points(run, name), styles[min(place, len(styles) - 1)], has_dots=True)
            for place, (label, name) in enumerate(labels)
        ]
        charts.append(line_chart(title, series, x_name=x_name, is_share=is_share, y_from_zero=is_share))
    remarks = "".join(f'<p class="remark">{escape(one)}</p>' for one in (_best(run), _rising_loss(run)) if one)
    drawn = _side_by_side(charts)
    return section("evaluations", f"Evaluation over {x_name}s", remarks, drawn)


def _side_by_side(charts: Sequence[str]) -> str:
    shown = [one for one in charts if one][:_MOST_CHARTS]
    return f'<div class="charts">{"".join(shown)}</div>' if shown else ""


def _charts_of(run: RunFiles) -> list[tuple[str, list[tuple[str, str]], bool]]:
    """Sort metrics into charts in the order of measuring: title, (label, metric) pairs, whether they are shares."""
    values: dict[str, set[float]] = {}
    for record in run.evals:
        for name, value in numbers_of(record.get("metrics")).items():
            values.setdefault(name, set()).add(value)
    charts: dict[str, tuple[list[tuple[str, str]], bool]] = {}
    for name, seen in values.items():
        # When it was, and sizes of the set, which no training changes.
        if name in ("epoch", "step") or (name.startswith("num_") and len(seen) == 1):
            continue
        within, rank = _WITHIN.fullmatch(name), _RANK.fullmatch(name)
        if within is not None:
            title, label = _title(within["stem"]), within["label"].lstrip("-").replace("recall", "R")
        else:
            title, label = (f"{_title(rank['stem'])}, rank", rank["label"]) if rank else (_title(name), name)
        labels, _ = charts.setdefault(title, ([], within is not None))
        labels.append((label, name))
    return [(title, labels, is_share) for title, (labels, is_share) in charts.items()]


def _title(name: str) -> str:
    """Write a metric's or a loss's name as a title."""
    row = _STEMS.get(name)
    if row is not None:
        return f"{DIRECTIONS[row.direction]}, {row.definition}"
    words = name.replace("_", " ").strip()
    return _TITLES.get(name, words[:1].upper() + words[1:])


def _x_name(run: RunFiles) -> str:
    """Say what evaluations are counted by: epochs, or steps where one was made inside an epoch."""
    is_inside = any("step" in numbers_of(record.get("metrics")) for record in run.evals)
    return "step" if is_inside else "epoch"


def _metric_points(run: RunFiles, name: str) -> Points:
    x_name = _x_name(run)
    found: Points = []
    for record in run.evals:
        metrics, x = numbers_of(record.get("metrics")), numbers_of(record).get(x_name)
        if name in metrics and isinstance(x, int):
            found.append((float(x), metrics[name]))
    return sorted(found)


def _best(run: RunFiles) -> str:
    """Name the epoch or step of the best mean one-to-one R@5 of both directions."""
    curves = [dict(_metric_points(run, row.key.format(5))) for row in RECALL_ROWS if row.definition == ONE_TO_ONE]
    means = {x: sum(curve[x] for curve in curves) / len(curves) for x in set.intersection(*map(set, curves))}
    if len(means) < 2:
        return ""
    # Of equal ones the first.
    best = max(sorted(means), key=means.__getitem__)
    shown = f"Best {_x_name(run)}: {best:,.0f}, with a mean R@5 of {percent(means[best])}"
    last = max(means)
    return f"{shown}." if best == last else f"{shown}; the last one, {last:,.0f}, has {percent(means[last])}."


def _rising_loss(run: RunFiles) -> str:
    """Remark a validation loss that has been lower before."""
    losses = _metric_points(run, "clip_val_loss")
    if len(losses) < 2:
        return ""
    (x, lowest), (last_x, last) = min(losses, key=lambda point: point[1]), losses[-1]
    if x == last_x or last < lowest + _WORTH_A_WORD * abs(lowest):
        return ""
    return (
        f"The validation loss was lowest after {_x_name(run)} {x:,.0f} ({format_value(lowest)}) and has risen to "
        f"{format_value(last)}: a sign that the model begins to learn its training pairs by heart. Fewer "
        "epochs, more data, or stronger augmentation work against it."
    )


def _step_chart(title: str, points: Points, *, is_noisy: bool, y_from_zero: bool = False) -> str:
    series = [Series("logged", points)]
    if is_noisy and len(points) >= _SMOOTH_FROM:
        series = [Series("logged", points, "faint"), Series("smoothed", smooth(points))]
    return line_chart(title, series, x_name="step", y_from_zero=y_from_zero)
