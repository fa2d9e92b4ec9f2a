"""The lines that open a run: what is about to happen, with what, where to, how to stop it and how it goes on."""

import argparse
import logging
import shlex
from pathlib import Path

from open_clip.errors import printable
from training.assembly import Parts, Place, count_parameters
from training.data import Source
from training.distributed import World, launch_words, unwrap_model
from training.loop import Progress
from training.optim import count_warmup
from training.params import RunParams, flags_with_secrets
from training.run_folder import FILE_LINE, setting_lines

_LOG = logging.getLogger(__name__)


def log_start(place: Place, args: argparse.Namespace, remark: str | None) -> None:
    """Log what upstream logs first: the processes, and every setting; and a remark on one of them."""
    world = place.world
    if world.is_distributed:
        _LOG.info(
            "Running in distributed mode with multiple processes. Device: %s. "
            "Process (global: %d, local %d), total %d.",
            place.torch_device,
            world.rank,
            world.local_rank,
            world.world_size,
        )
    else:
        _LOG.info("Running with a single process. Device %s.", place.torch_device)
    _LOG.info("%s", "\n".join(["Params:", *(f"  {line}" for line in setting_lines(args))]), extra=FILE_LINE)
    if remark is not None:
        _LOG.info("%s", remark)


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


def resume_command(place: Place, args: argparse.Namespace) -> str:
    """Spell the command that goes on with a run."""
    root = place.folder.root
    if root is None:
        return "nothing was saved (--logs-dir None)"
    launcher, note = launch_words(place.world)
    config, name = shlex.quote(str(root / "config.yaml")), shlex.quote(root.name)
    secret = flags_with_secrets(args)
    again = f"\nand {', '.join(secret)} as before: what is secret in the value is not kept." if secret else ""
    return f"{launcher} --config {config} --name {name} --resume latest{note}{again}"


def stopped_words(stopped: str, world: World, how_to_go_on: str) -> str:
    """Say once a machine how the run goes on, and whose the traceback is that torchrun prints below."""
    if world.local_rank:
        return f"{stopped}."
    told = f"{stopped}. Go on with:\n  {how_to_go_on}"
    if world.launcher == "torchrun":
        told += "\n(A traceback with SignalException after this is torchrun's own answer to a signal.)"
    return told


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
