"""The lines that open a run on the screen: what is about to happen, with what, where to, and how to stop it."""

from pathlib import Path

from open_clip.errors import printable
from training.assembly import Parts, Place, count_parameters
from training.data import Source
from training.distributed import unwrap_model
from training.loop import Progress
from training.optim import count_warmup
from training.params import RunParams


def describe_opening(
    params: RunParams, place: Place, parts: Parts, progress: Progress, resumed_from: Path | None, goes_on: str
) -> str:
    """Write about ten lines for a person who has just started a run.

    Args:
        params: The run's flags.
        place: Where this process computes.
        parts: The run's parts.
        progress: Where it goes on.
        resumed_from: The checkpoint it goes on from, if any.
        goes_on: The command that goes on with it after a stop.
    """
    facts = [("model", _model(params, parts)), ("device", _device(place, parts))]
    if parts.train_loader is not None:
        facts += [("training", _training_data(params, parts)), ("steps", _steps(params, place, parts, progress))]
        facts.append(("learning rate", _learning_rate(params, parts)))
    if parts.eval_table is not None:
        facts.append(("validation", _rows(parts.eval_table)))
    if resumed_from is not None:
        facts.append(("from", f"{printable(resumed_from)}, step {progress.step:,}"))
    root = place.folder.root
    if root is None:
        facts.append(("folder", "none: nothing is saved (--logs-dir None)"))
    else:
        facts.append(("folder", f"{printable(root)} (all settings: params.txt; this log: out.log)"))
    if parts.train_loader is not None and root is not None:
        facts.append(("to stop", f"press Ctrl-C once; it saves. Go on with:\n  {goes_on}"))
    title = "Training" if parts.train_loader is not None else "Evaluating"
    return "\n".join([f"{title}:", *(f"  {name:<14} {value}" for name, value in facts)])


def _model(params: RunParams, parts: Parts) -> str:
    learned = sum(one.numel() for one in unwrap_model(parts.task.model).parameters() if one.requires_grad)
    every = count_parameters(parts)
    trained = "" if learned == every else f", {learned:,} of them trained"
    start = f", from {printable(params.model.pretrained)}" if params.model.pretrained else ""
    return f"{printable(params.model.model)}, {every:,} parameters{trained}{start}"


def _device(place: Place, parts: Parts) -> str:
    processes = f"{place.world.world_size} processes" if place.world.is_distributed else "1 process"
    precision = parts.mixed.precision
    computed = precision.effective + (f" ({precision.requested} asked)" if precision.note else "")
    return f"{place.device.info().name} ({place.torch_device}), {processes}, precision {computed}"


def _training_data(params: RunParams, parts: Parts) -> str:
    assert parts.train_loader is not None
    source = params.data.train_data if params.data.dataset_type != "synthetic" else "made-up images"
    return f"{parts.train_loader.num_samples:,} rows an epoch from {printable(source)}"


def _rows(table: Source) -> str:
    images = f" with {table.num_images:,} images" if table.num_images else ""
    return f"{len(table):,} rows{images} from {printable(table.source)}"


def _steps(params: RunParams, place: Place, parts: Parts, progress: Progress) -> str:
    length = parts.length
    assert length is not None
    batch = params.data.batch_size * params.optim.accum_freq * place.world.world_size
    made_of = [f"{params.data.batch_size} each"]
    made_of += [f"{place.world.world_size} processes"] if place.world.is_distributed else []
    made_of += [f"{params.optim.accum_freq} batches a step"] if params.optim.accum_freq > 1 else []
    of = f" ({' x '.join(made_of)})" if len(made_of) > 1 else ""
    epochs, steps = _count(length.epochs, "epoch"), _count(length.steps_per_epoch, "step")
    cut_off = length.epochs * length.steps_per_epoch - length.steps
    short = f", the last ends {_count(cut_off, 'step')} early" if cut_off else ""
    left = f", {max(0, length.steps - progress.step):,} left" if progress.step else ""
    return f"{length.steps:,} of {batch:,} rows{of}: {epochs} of {steps}{short}{left}"


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _learning_rate(params: RunParams, parts: Parts) -> str:
    rate, schedule = params.optim.lr or 0.0, params.schedule
    if schedule.skip_scheduler:
        return f"{rate:g} throughout"
    assert parts.length is not None
    total = parts.length.steps
    warmup = count_warmup(schedule, total)
    if warmup > total:
        return f"rises to {rate:g} over --warmup {warmup:,} steps; this run ends before, at {rate * total / warmup:.2g}"
    return f"{rate:g} after {_count(warmup, 'step')} of warm-up, then {schedule.lr_scheduler}"
