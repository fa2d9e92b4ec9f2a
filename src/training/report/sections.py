"""The parts of the HTML page that say how a run went in figures: headline, key figures, metrics. Reads no file."""

import re

from open_clip.checked_json import numbers_of
from training.report.markup import escape, moment, percent, section, table, user_text
from training.report.recall import DIRECTIONS, ONE_TO_ONE, RECALL_AT, RECALL_ROWS, RecallRow, chance_levels
from training.report.run_files import RunFiles, record_of
from training.report.summary import TOP_K, describe_wall_time, describe_window, format_duration

_STATUS = {"finished": "Finished", "stopped": "Stopped on request"}
# As `run_folder.choose_name` makes one.
_MADE_UP_NAME = re.compile(r"\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d-model_")


def title_of(run: RunFiles) -> str:
    """Give a title for people: the name that the run was given, or what it did where its name was made up."""
    model = run.config.get("model")
    if not _MADE_UP_NAME.match(run.name) or not isinstance(model, str):
        return run.name
    for key, did in (("train_data", "trained on"), ("val_data", "evaluated on")):
        data = run.config.get(key)
        if isinstance(data, str) and data.strip("/"):
            return f"{model}, {did} {data.rstrip('/').rpartition('/')[2]}"
    return model


def headline(run: RunFiles) -> str:
    """Write the title, how the run ended, and what it was in one line."""
    title = title_of(run)
    name = "" if title == run.name else f'<p class="run-name">{user_text(run.name, 160)}</p>'
    status = str(run.summary.get("status", "unfinished"))
    label = _STATUS.get(status, "Still going on, or killed" if not run.summary else status)
    first = run.runs[0] if run.runs else {}
    parts = [run.config.get("model"), _device_line(run), moment(first.get("time"), "%Y-%m-%d %H:%M")]
    described = " \u00b7 ".join(user_text(part, 80) for part in parts if part)
    css_class = status if status in _STATUS else "unfinished"
    return (
        f'<header><p class="kicker">Training report</p><h1>{user_text(title, 160)}</h1>{name}'
        f'<p class="described"><span class="status {css_class}">{escape(label, 60)}</span> {described}</p></header>'
    )


def key_figures(run: RunFiles) -> str:
    """Write the six figures that people look for first."""
    cards = [
        *(_recall_card(run, row) for row in RECALL_ROWS if row.definition == ONE_TO_ONE),
        *_accuracy_cards(run),
        _throughput_card(run),
        _loss_card(run),
    ]
    summary, last = numbers_of(run.summary), numbers_of(run.last_train)
    if summary:
        train_s, whole_s = (summary.get(key, 0.0) for key in ("train_time_s", "e2e_time_s"))
        cards.append(
            ("Training time", format_duration(train_s), f"{format_duration(whole_s)} {describe_wall_time(run.summary)}")
        )
    step = summary.get("steps", last.get("step"))
    if step:
        epochs = summary.get("epochs", last.get("epoch", 0))
        cards.append(("Steps", f"{step:,}", f"{epochs} complete epoch{'' if epochs == 1 else 's'}"))
    shown = [card for card in cards if card is not None]
    if not shown:
        empty = "No figure yet: the run stopped before its first log line."
        return f'<section id="figures"><p class="empty">{empty}</p></section>'
    divs = "".join(
        f'<div class="figure"><dt>{escape(name)}</dt><dd>{escape(value)}</dd><p>{escape(note)}</p></div>'
        for name, value, note in shown
    )
    return f'<section id="figures"><dl class="figures">{divs}</dl></section>'


def recall_name(run: RunFiles) -> str:
    """Name the section of :func:`recall_section`."""
    measures_recall = any(value is not None for row in RECALL_ROWS for value in row.values(run.metrics))
    return "Retrieval" if measures_recall or not run.metrics else "Metrics"


def recall_section(run: RunFiles) -> str:
    """Write the recall table in both definitions with chance levels, and any other metric below it."""
    metrics = run.metrics
    num_images, num_texts = metrics.get("num_images", 0), metrics.get("num_texts", 0)
    rows = []
    for row in RECALL_ROWS:
        values = row.values(metrics)
        if all(value is None for value in values):
            continue
        chance = chance_levels(row, num_images, num_texts) if num_images and num_texts else [None] * len(values)
        cells = [_share_with_chance(value, level) for value, level in zip(values, chance, strict=True)]
        label = f"<b>{DIRECTIONS[row.direction]}</b>, {row.definition}<small>{escape(row.meaning)}</small>"
        rows.append([label, *cells])
    if not rows and metrics:
        return section("recall", "Metrics", _other_metrics(metrics))
    if not rows:
        is_over = run.summary.get("status") == "finished" and not run.summary.get("evaluates")
        reason = "This run measured none; --val-data adds it." if is_over else "This run has no evaluation yet."
        return section("recall", "Retrieval", f'<p class="empty">{reason}</p>')
    intro = (
        f"{num_images:,.0f} images and {num_texts:,.0f} texts. R@K is the share of questions with a right answer "
        "among the K best. Under each figure stands what random scores would reach."
    )
    head = ["Direction and definition", *(f"R@{k}" for k in RECALL_AT)]
    return section("recall", "Retrieval", table(head, rows, "recall"), _other_metrics(metrics), intro=intro)


def _recall_card(run: RunFiles, row: RecallRow) -> tuple[str, str, str] | None:
    value = row.values(run.metrics)[1]
    if value is None:
        return None
    num_images, num_texts = run.metrics.get("num_images", 0), run.metrics.get("num_texts", 0)
    chance = f", chance {percent(chance_levels(row, num_images, num_texts)[1])}" if num_images and num_texts else ""
    return f"{DIRECTIONS[row.direction]} R@5", percent(value), f"{row.definition}{chance}"


def _throughput_card(run: RunFiles) -> tuple[str, str, str] | None:
    summary = numbers_of(run.summary)
    if summary.get("fps"):
        window = describe_window(int(summary.get("steps", 0)))
        return "Throughput", f"{summary['fps']:,.1f}/s", f"samples, all devices, {window}"
    rate = numbers_of(run.last_train).get("samples_per_s")
    return None if not rate else ("Throughput", f"{rate:,.1f}/s", "samples, all devices, last logged step")


def _loss_card(run: RunFiles) -> tuple[str, str, str] | None:
    summary, train = numbers_of(run.summary), numbers_of(run.last_train)
    loss = summary.get("loss", train.get("loss_avg"))
    last = summary.get("last_loss", train.get("loss"))
    if loss is None:
        return None
    return "Loss", f"{loss:.4f}", "mean of the last epoch" + ("" if last is None else f", last step {last:.4f}")


def _accuracy_cards(run: RunFiles) -> list[tuple[str, str, str]]:
    """Show the accuracies of the first set of classes, in a run that measured no retrieval."""
    if any(row.values(run.metrics)[1] is not None for row in RECALL_ROWS):
        return []
    found = [match for match in map(TOP_K.fullmatch, run.metrics) if match is not None]
    of_first = [match for match in found if match["set"] == found[0]["set"]]
    return [(f"Top-{match['k']}", percent(run.metrics[match[0]]), match["set"]) for match in of_first]


def _other_metrics(metrics: dict[str, float]) -> str:
    shown = {row.key.format(k) for row in RECALL_ROWS for k in RECALL_AT} | {"num_images", "num_texts", "epoch", "step"}
    rest = [
        [escape(name, 80), f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4f}"]
        for name, value in metrics.items()
        if name not in shown
    ]
    return table(["Metric", "Value"], rest, "plain metrics")


def _share_with_chance(value: float | None, chance: float | None) -> str:
    if value is None:
        return "-"
    below = "" if chance is None else f"<small>chance {percent(chance)}</small>"
    return f'<span class="share">{percent(value)}</span>{below}'


def _device_line(run: RunFiles) -> str | None:
    world_size = run.summary.get("world_size") or (run.runs[-1].get("world_size") if run.runs else None)
    name = run.summary.get("device") or (record_of(run.runs[-1].get("device")).get("name") if run.runs else None)
    return None if not name else f"{world_size or 1} \u00d7 {name}"
