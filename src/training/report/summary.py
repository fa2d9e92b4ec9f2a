"""The figures that end a run: step times, ``summary.json`` and the block printed last. Measures no step itself."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from training.report.recall import RECALL_AT, RECALL_ROWS, chance_levels

WINDOW = 100
_RULE_WIDTH = 80


class StepTimes:
    """Wall seconds of optimizer steps: the last hundred for the throughput, and totals.

    Source: Ascend ModelZoo's fine-tune scripts take the mean of the last 100 step times.
    """

    def __init__(self, global_batch: int) -> None:
        self.global_batch = global_batch
        self.num_steps = 0
        self.total_s = 0.0
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def add(self, seconds: float) -> None:
        """Count one step."""
        self.num_steps += 1
        self.total_s += seconds
        self._recent.append(seconds)

    def fps(self) -> float | None:
        """Give the samples a second of all devices over the last hundred steps; None before the first."""
        recent_s = sum(self._recent)
        return self.global_batch * len(self._recent) / recent_s if recent_s > 0 else None

    def fps_all_steps(self) -> float | None:
        """Give the samples a second of all devices over every step, the slow first ones included."""
        return self.global_batch * self.num_steps / self.total_s if self.total_s > 0 else None

    def state_dict(self) -> dict[str, Any]:
        """Give plain values for a checkpoint."""
        return {"num_steps": self.num_steps, "total_s": self.total_s, "recent_s": list(self._recent)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's values."""
        self.num_steps, self.total_s = int(state["num_steps"]), float(state["total_s"])
        self._recent = deque(state["recent_s"], maxlen=WINDOW)


def build_summary(
    times: StepTimes,
    *,
    epochs: int,
    e2e_time_s: float,
    loss: float | None,
    last_loss: float | None,
    metrics: Mapping[str, float] | None,
    device: str,
    world_size: int,
    status: str,
    checkpoint: str | None,
    report: str | None,
) -> dict[str, Any]:
    """Gather the content of ``summary.json``.

    Args:
        times: Step times of the run; ``global_batch`` comes from there.
        epochs: Completed epochs.
        e2e_time_s: Wall seconds since the command started.
        loss: Running average of the last epoch, as the last training line shows it in parentheses.
        last_loss: Loss of the last step.
        metrics: Those of the last evaluation, None when there was none.
        device: Name of the device, as people say it.
        world_size: Number of ranks.
        status: ``finished`` or ``stopped``.
        checkpoint: Path of the newest checkpoint.
        report: Path of the HTML report.
    """
    return {
        "status": status,
        "fps": times.fps(),
        "fps_all_steps": times.fps_all_steps(),
        "steps": times.num_steps,
        "epochs": epochs,
        "train_time_s": round(times.total_s, 3),
        "e2e_time_s": round(e2e_time_s, 3),
        "loss": loss,
        "last_loss": last_loss,
        "metrics": dict(metrics or {}),
        "device": device,
        "world_size": world_size,
        "global_batch": times.global_batch,
        "checkpoint": checkpoint,
        "report": report,
    }


def format_summary(summary: Mapping[str, Any]) -> str:
    """Write the block that ends a run, in 80 columns; a long path may stand out at the right.

    Both recall definitions are shown with the number of pictures and texts and what chance would reach.
    """
    title = f" Run {summary.get('status', 'ended')} "
    lines = [title.center(_RULE_WIDTH, "-"), ""]
    lines.append(_fact("Device", f"{summary.get('world_size') or 1} x {summary.get('device', '?')}"))
    lines += [
        _fact("Throughput", _throughput(summary)),
        _fact("Loss", _losses(summary)),
        _fact("Time", _times(summary)),
    ]
    lines += [_fact("Steps", f"{summary.get('steps', 0)} in {summary.get('epochs', 0)} complete epochs"), ""]
    metrics = summary.get("metrics") or {}
    lines += [*_zero_shot_facts(metrics), *_recall_table(metrics)]
    for name, key in (("Checkpoint", "checkpoint"), ("Report", "report")):
        if summary.get(key):
            lines.append(_fact(name, str(summary[key])))
    return "\n".join([*lines, "-" * _RULE_WIDTH])


def format_duration(seconds: float) -> str:
    """Write seconds as people say them: ``12.3 s``, ``4 min 05 s``, ``2 h 07 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60):02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _fact(name: str, value: str) -> str:
    return f"  {name:<12} {value}"


def _number(value: Any, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _throughput(summary: Mapping[str, Any]) -> str:
    return (
        f"{_number(summary.get('fps'), ',.1f')} samples/s over the last {WINDOW} steps, "
        f"{_number(summary.get('fps_all_steps'), ',.1f')} over all"
    )


def _losses(summary: Mapping[str, Any]) -> str:
    mean, last = _number(summary.get("loss"), ".4f"), _number(summary.get("last_loss"), ".4f")
    return f"{mean} mean of the last epoch, {last} last step"


def _times(summary: Mapping[str, Any]) -> str:
    return (
        f"{format_duration(summary.get('train_time_s') or 0)} in training steps, "
        f"{format_duration(summary.get('e2e_time_s') or 0)} in all"
    )


def _zero_shot_facts(metrics: Mapping[str, float]) -> list[str]:
    ends = ("-top1", "-top5")
    sets = dict.fromkeys(name.removesuffix(end) for name in metrics for end in ends if name.endswith(end))
    facts = []
    for name in sets:
        top1, top5 = (_number(_percent(metrics.get(name + end)), ".1f") for end in ends)
        facts.append(_fact("Zero-shot", f"{name}: top-1 {top1} %, top-5 {top5} %"))
    return facts


def _recall_table(metrics: Mapping[str, float]) -> list[str]:
    """Lay out the four rows of recall in per cent, each with its chance level."""
    rows = [row for row in RECALL_ROWS if any(value is not None for value in row.values(metrics))]
    if not rows and metrics:
        return [""]
    if not rows:
        return ["  No evaluation in this run (give --val-data to measure retrieval).", ""]
    num_images, num_texts = metrics.get("num_images", 0), metrics.get("num_texts", 0)
    head = f"Retrieval in %: {num_images:,.0f} pictures, {num_texts:,.0f} texts"
    lines = [f"  {head:<52}" + "".join(f"{f'R@{k}':>8}" for k in RECALL_AT)]
    for row in rows:
        label = f"{row.direction}, {row.definition}"
        lines.append(f"    {label:<50}" + "".join(f"{_number(_percent(one), '.1f'):>8}" for one in row.values(metrics)))
        if num_images and num_texts:
            chance = chance_levels(row, num_images, num_texts)
            lines.append(f"    {'  chance':<50}" + "".join(f"{100 * one:>8.1f}" for one in chance))
    lines += [
        "    one to one: only the row's own caption is right (the trainer's usual figure)",
        "    any caption: any caption of the picture is right (benchmarks and papers)",
        "",
    ]
    return lines


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
