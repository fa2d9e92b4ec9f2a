"""The parts of the HTML page to look things up in: settings, hardware, events, bad samples. Reads no file."""

from training.report.jsonl import Record
from training.report.markup import escape, fact_list, moment, section, short_path, table, user_text
from training.report.run_files import RunFiles, record_of

_MAX_ROWS = 40
_MAIN_SETTINGS = (
    "model",
    "pretrained",
    "train_data",
    "val_data",
    "dataset_type",
    "batch_size",
    "accum_freq",
    "epochs",
    "lr",
    "lr_scheduler",
    "warmup",
    "wd",
    "precision",
    "grad_clip_norm",
    "workers",
    "seed",
    "device",
)


def configuration(run: RunFiles) -> str:
    """List the settings that matter most, and all of them behind a fold."""
    main = fact_list([(name, run.config[name]) for name in _MAIN_SETTINGS if run.config.get(name) not in (None, "")])
    rows = [[escape(name, 80), user_text(_plain(value))] for name, value in sorted(run.config.items())]
    folded = f"<details><summary>All {len(rows)} settings</summary>{table(['Flag', 'Value'], rows, 'plain')}</details>"
    intro = "python -m training.main --config config.yaml, with this folder's file, repeats the run."
    return section("configuration", "Configuration", main, folded if rows else "", intro=intro if rows else "")


def hardware(run: RunFiles) -> str:
    """List device, ranks, precision and versions of the newest start."""
    if not run.runs:
        return ""
    newest = run.runs[-1]
    device, precision, train = (record_of(newest.get(key)) for key in ("device", "precision", "train"))
    memory = device.get("memory_bytes")
    parameters = newest.get("num_parameters")
    versions = record_of(newest.get("versions")) | record_of(device.get("versions"))
    facts = [
        ("Device", device.get("name")),
        ("Kind", device.get("kind")),
        ("Memory of a device", f"{memory / 2**30:,.1f} GiB" if isinstance(memory, int | float) else None),
        ("Processes", newest.get("world_size")),
        ("Global batch", newest.get("global_batch")),
        ("Precision", precision.get("effective")),
        ("Precision note", precision.get("note")),
        ("Model parameters", f"{parameters:,}" if isinstance(parameters, int) else None),
        ("Training samples", f"{train['num_samples']:,}" if isinstance(train.get("num_samples"), int) else None),
        *((str(name), version) for name, version in versions.items()),
    ]
    return section("hardware", "Hardware and versions", fact_list(facts))


def events(run: RunFiles) -> str:
    """List what happened on the way, newest last, and the rows that could not be used."""
    shown = run.events[-_MAX_ROWS:]
    rows = [
        [
            moment(one.get("time"), "%Y-%m-%d %H:%M:%S"),
            escape(one.get("step", "")),
            user_text(one.get("event", "?"), 60),
            _detail(one),
        ]
        for one in shown
    ]
    left_out = len(run.events) - len(shown)
    note = f'<p class="intro">{left_out:,} earlier events are in metrics.jsonl.</p>' if left_out else ""
    listed = table(["Time", "Step", "Event", "Detail"], rows, "plain stacked")
    counts = ("Skipped steps", "Rollbacks", "Steps left out")
    newest = fact_list(
        [
            ("Newest checkpoint", run.summary.get("checkpoint")),
            *((name, run.summary.get(name.lower().replace(" ", "_")) or None) for name in counts),
        ]
    )
    return section("events", "Events", newest, note, listed, _bad_samples(run))


def _bad_samples(run: RunFiles) -> str:
    if not run.bad_samples:
        return ""
    count, shown = run.num_bad_samples, len(run.bad_samples)
    rows = [
        [
            user_text(f"{one.get('source', '?')}:{one.get('row', '?')}"),
            user_text(one.get("path", "")),
            user_text(one.get("reason", "")),
        ]
        for one in run.bad_samples
    ]
    more = f", the first {shown} of them" if count > shown else ""
    title = f"{count:,} bad sample{'' if count == 1 else 's'} left out{more}"
    return f"<h3>{title}</h3>" + table(["Row", "Image", "Reason"], rows, "plain stacked")


def _plain(value: object) -> str:
    return ", ".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)


def _detail(record: Record) -> str:
    detail = record_of(record.get("detail"))
    return "<br>".join(f"{escape(name, 60)}: {short_path(value)}" for name, value in detail.items())
