"""The evaluations of a run: what the recipe offers, of which the flags choose. Measures nothing."""

from functools import partial

from open_clip.errors import ConfigError, printable, suggest_nearest
from open_clip.transform import Compose
from training.assembly.data import build_eval_data, load, make_receive
from training.assembly.fields import leave_normalisation, make_tokenizer
from training.assembly.place import Place
from training.assembly.texts import evaluation_shapes
from training.data import (
    ImageField,
    LabelField,
    Quarantine,
    RowDataset,
    make_eval_loader,
    read_class_folder,
    rgb_first,
)
from training.device import MixedPrecision
from training.evaluate import ClassSet, Evaluation, EvaluationKit, Pace, ValidationRows, read_class_names
from training.params import RunParams
from training.tasks import Task


def build_evaluation_kit(
    params: RunParams, place: Place, mixed: MixedPrecision, transform: Compose, task: Task
) -> EvaluationKit:
    """Open the data that the flags name for evaluation.

    Raises:
        OpenClipError: One of its kinds, naming the flag or file that is wrong.
    """
    flags = params.evaluate
    return EvaluationKit(
        place.world,
        mixed.autocast,
        partial(make_tokenizer, params),
        pace=Pace(flags.val_frequency, flags.val_every_n_steps),
        rows=_open_rows(params, place, transform, task),
        class_sets=_open_class_sets(params, place, transform),
        zero_shot_pace=Pace(flags.zeroshot_frequency, flags.val_every_n_steps),
        shapes=evaluation_shapes(params, place),
        global_batch=params.data.batch_size * place.world.world_size,
        gallery_size=flags.gallery_size,
    )


def choose_evaluations(offered: tuple[Evaluation, ...], names: list[str] | None) -> tuple[Evaluation, ...]:
    """Keep those that ``--evaluate`` names, in the recipe's order; without the flag all but those made on request.

    Raises:
        ConfigError: There is none of such a name, or the recipe gives two the same one.
    """
    known = [one.name for one in offered]
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise ConfigError(f"the recipe lists two evaluations named {twice[0]}; give each a name of its own.")
    if names is None:
        return tuple(one for one in offered if not one.is_on_request)
    for name in names:
        if name not in known:
            raise ConfigError(_unknown(name, known))
    return tuple(one for one in offered if one.name in names)


def _unknown(name: str, known: list[str]) -> str:
    there = ", ".join(known) if known else "none"
    return (
        f"--evaluate {printable(name, 80)}: this run has no such evaluation.{suggest_nearest(name, known)} It has: "
        f"{there} (retrieval needs --val-data, zero-shot needs --imagenet-val or --imagenet-v2)."
    )


def _open_class_sets(params: RunParams, place: Place, transform: Compose) -> tuple[ClassSet, ...]:
    """Open the class folders that the flags name; ImageNet-V2's folders are numbers, whose order is not the text's."""
    if not params.evaluate.zeroshot_frequency:
        return ()
    named = {
        "imagenet-zeroshot-val": (params.evaluate.imagenet_val, False),
        "imagenetv2-zeroshot-val": (params.evaluate.imagenet_v2, True),
    }
    sets = []
    for name, (path, by_number) in named.items():
        if not path:
            continue
        table, classes = read_class_folder(path, by_number)
        quarantine = Quarantine(place.folder.bad_samples, table.num_rows_read, params.data.bad_sample_budget)
        quarantine.record(table.faults)
        image = ImageField(rgb_first(leave_normalisation(transform)), max_pixels=params.data.max_image_pixels)
        loader = load(make_eval_loader, RowDataset(table, (image, LabelField()), is_train=False), params, place)
        sets.append(ClassSet(name, loader, read_class_names(path, len(classes)), make_receive(place, quarantine)))
    return tuple(sets)


def _open_rows(params: RunParams, place: Place, transform: Compose, task: Task) -> ValidationRows | None:
    loader, quarantine, source = build_eval_data(params, place, transform, task)
    if loader is None or source is None:
        return None
    receive = make_receive(place, quarantine)
    return ValidationRows(loader, receive, source, params.hardware.seed, params.data.max_image_pixels)
