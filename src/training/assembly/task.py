"""The recipe of a run from the flags: loss, task, teacher. What a recipe computes is `tasks`'."""

import logging
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch

import open_clip
from open_clip import CoCa
from open_clip.errors import ConfigError
from training.assembly.place import Place
from training.device import Precision
from training.distributed import World, unwrap_model
from training.params import RunParams
from training.tasks import ClipTask, CoCaTask, DistillTask, SigLipTask

_LOG = logging.getLogger(__name__)


def build_teacher(params: RunParams, precision: Precision, torch_device: torch.device) -> Any:
    """Make the teacher of ``--distill-model`` with its weights; None without one.

    Raises:
        ConfigError: its name or the tag of its weights is not known.
    """
    if params.recipe.distill_model is None:
        return None
    return open_clip.create_model(
        params.recipe.distill_model,
        params.recipe.distill_pretrained,
        precision=precision.model,
        device=torch_device,
        output_dict=True,
        cache_dir=params.model.cache_dir,
        require_pretrained=True,
    )


def build_task(
    params: RunParams,
    place: Place,
    model: Any,
    teacher: Any,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    precision: Precision,
) -> ClipTask:
    """Make the recipe that the flags and the model ask for.

    Args:
        model: The model, wrapped where processes train together.
        teacher: What :func:`build_teacher` made.
        mean: What the images are normalised with, by channel.
        std: Likewise.

    Raises:
        ConfigError: flags and model do not go together.
    """
    bare = unwrap_model(model)
    is_coca = isinstance(bare, CoCa)
    _check_recipe(params, bare, teacher, is_coca)
    if params.data.trains:
        check_pairs_of_a_step(params, place.world, is_coca=is_coca)
    loss: Any = _create_loss(params, place, bare)
    options: dict[str, Any] = {"mean": mean, "std": std, "input_dtype": precision.input_dtype}
    if teacher is not None:
        to_teacher = teacher_pixels(params, teacher, options, precision)
        return DistillTask(model, loss, teacher=teacher, to_teacher=to_teacher, **options)
    if is_coca:
        return CoCaTask(model, loss, world=place.world, **options)
    if params.recipe.siglip:
        return SigLipTask(model, loss, **options)
    return ClipTask(model, loss, **options)


def check_pairs_of_a_step(params: RunParams, world: World, *, is_coca: bool) -> None:
    """Refuse to train on one pair a step where the loss compares pairs with each other.

    Raises:
        ConfigError: Says what to change.
    """
    pairs = params.data.batch_size * params.optim.accum_freq * world.world_size
    learns_alone = params.recipe.siglip or (is_coca and params.recipe.coca_caption_loss_weight > 0)
    if pairs == 1 and not learns_alone:
        raise ConfigError(
            "the contrastive loss of a single pair is always 0, so nothing would be learned: --batch-size, "
            "--accum-freq and the number of processes are all 1. Give --batch-size 2 or more, or --siglip, which "
            "learns from one."
        )


def _create_loss(params: RunParams, place: Place, model: Any) -> Any:
    recipe = params.recipe
    return open_clip.create_loss(
        Namespace(
            **vars(recipe) | {"distill": recipe.distill_model is not None},
            model=params.model.model,
            local_loss=params.distributed.local_loss,
            # Without it each process would get 1/world_size of the towers' gradient: other results on more devices.
            gather_with_grad=True,
            rank=place.world.rank,
            world_size=place.world.world_size,
        ),
        model,
    )


def _check_recipe(params: RunParams, model: Any, teacher: Any, is_coca: bool) -> None:
    name = params.model.model
    if is_coca and params.recipe.siglip:
        raise ConfigError(f"--siglip: {name} is a CoCa, whose contrastive loss is CLIP's; leave --siglip out.")
    if teacher is None:
        return
    if is_coca or isinstance(teacher, CoCa):
        raise ConfigError("--distill-model: neither the teacher nor the model to be trained can be a CoCa.")
    sizes = [(_pair(one.visual.image_size), one.context_length) for one in (model, teacher)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"the teacher {params.recipe.distill_model} takes images of {sizes[1][0]} pixels and {sizes[1][1]} tokens, "
            f"{name} {sizes[0][0]} and {sizes[0][1]}: both see the same batch. Choose another teacher, or give "
            "--force-image-size and --force-context-length."
        )


def _pair(size: int | tuple[int, int]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)


def teacher_pixels(
    params: RunParams, teacher: Any, student: dict[str, Any], precision: Precision
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make the function from the student's normalised pixels to the teacher's."""
    # apex converts only the model it trains.
    dtype = torch.float32 if precision.apex_level is not None else precision.input_dtype
    mean, std = teacher.visual.image_mean, teacher.visual.image_std
    if (tuple(mean), tuple(std)) == (tuple(student["mean"]), tuple(student["std"])):
        return lambda images: images.to(dtype or images.dtype)
    if not params.recipe.distill_own_normalization:
        _LOG.warning(
            "the teacher was trained on pixels of mean %s and deviation %s and is given the student's; "
            "--distill-own-normalization gives it its own.",
            mean,
            std,
        )
        return lambda images: images.to(dtype or images.dtype)

    def renormalise(images: torch.Tensor) -> torch.Tensor:
        own = torch.tensor([mean, std, student["mean"], student["std"]]).to(images.device, torch.float32)
        to_mean, to_std, from_mean, from_std = (row.view(-1, 1, 1) for row in own)
        pixels: torch.Tensor = (images.float() * from_std + from_mean - to_mean) / to_std
        return pixels.to(dtype or images.dtype)

    return renormalise
