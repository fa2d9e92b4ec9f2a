"""Contrastive training of a student that also imitates a teacher's scores."""

import logging
from collections.abc import Callable
from typing import Any

import torch

import open_clip
from open_clip.errors import ConfigError, printable
from open_clip.loss import DistillClipLoss
from open_clip.protocols import WritesCaptions
from training.data import Batch, ReadingRule
from training.distributed import World, unwrap_model
from training.params import RunParams
from training.tasks.base import Outputs, Setup
from training.tasks.clip import ClipTask, loss_options, name_outputs

_LOG = logging.getLogger(__name__)


class DistillTask(ClipTask):
    """Train a two-tower model on its pairs and on the scores that a frozen teacher gives them.

    The teacher runs in eval mode and without gradient, once a batch. ``to_teacher`` turns the student's pixels
    [B, 3, H, W] into the teacher's. A step of several batches caches the teacher's features as it does the student's,
    so its gradients are those of one large batch.
    """

    name = "distill"

    def __init__(
        self,
        model: torch.nn.Module,
        loss: DistillClipLoss,
        *,
        teacher: torch.nn.Module,
        to_teacher: Callable[[torch.Tensor], torch.Tensor],
        **options: Any,
    ) -> None:
        super().__init__(model, loss, **options)
        self.teacher = teacher.eval().requires_grad_(False)
        self._to_teacher = to_teacher
        bare = unwrap_model(model)
        # Layouts are planned for the student: they fit a teacher that is read at the same token.
        rule = ReadingRule.of(bare)
        self._teacher_takes_layout = rule is not None and rule == ReadingRule.of(teacher)

    @classmethod
    def check(cls, params: RunParams, world: World) -> None:
        """Refuse a run without a teacher."""
        if params.recipe.distill_model is None:
            raise ConfigError("--task distill needs --distill-model NAME and --distill-pretrained, the teacher.")
        super().check(params, world)

    @classmethod
    def why_not(cls, model: torch.nn.Module) -> str | None:
        """Refuse models for which the loss has no place."""
        if isinstance(model, WritesCaptions):
            return "it writes captions, which neither the teacher nor the model to be trained may"
        has_bias = getattr(model, "logit_bias", None) is not None
        return "it has a logit bias, which distillation does not train" if has_bias else None

    @classmethod
    def build(cls, setup: Setup) -> "DistillTask":
        """Make it with its teacher."""
        teacher = _create_teacher(setup)
        loss = DistillClipLoss(**loss_options(setup))
        return cls(setup.model, loss, teacher=teacher, to_teacher=_teacher_pixels(teacher, setup), **setup.options)

    def row_outputs(self) -> tuple[str, ...]:
        """Name the features of student and teacher."""
        own = super().row_outputs()
        return (*own, *(f"dist_{name}" for name in own))

    @torch.no_grad()
    def fixed_outputs(self, batch: Batch) -> Outputs:
        """Run the teacher: its outputs, named dist_*."""
        texts = batch.texts.for_model() if self._teacher_takes_layout else batch.texts.ids
        outputs = name_outputs(self.teacher(self._to_teacher(batch.images), texts))
        # A bias moves all scores of a row alike and so changes no share of them.
        return {f"dist_{name}": value for name, value in outputs.items() if name != "logit_bias"}


def _create_teacher(setup: Setup) -> Any:
    """Make the teacher of ``--distill-model`` with its weights.

    Raises:
        ConfigError: its name or the tag of its weights is not known, or it sees another batch than the student.
    """
    recipe, student = setup.params.recipe, setup.model
    assert recipe.distill_model is not None
    teacher: Any = open_clip.create_model(
        recipe.distill_model,
        recipe.distill_pretrained,
        precision=setup.precision.model,
        device=setup.torch_device,
        output_dict=True,
        cache_dir=setup.params.model.cache_dir,
        require_pretrained=True,
    )
    if isinstance(teacher, WritesCaptions):
        raise ConfigError(
            f"--distill-model {printable(recipe.distill_model, 200)}: it writes captions, which neither "
            "the teacher nor the model to be trained may. Choose a model that only compares images with texts."
        )
    sizes = [(_pair(one.visual.image_size), one.context_length) for one in (student, teacher)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"the teacher {recipe.distill_model} takes images of {sizes[1][0]} pixels and {sizes[1][1]} tokens, "
            f"{setup.params.model.model} {sizes[0][0]} and {sizes[0][1]}: both see the same batch. Choose another "
            "teacher, or give --force-image-size and --force-context-length."
        )
    return teacher


def _pair(size: int | tuple[int, int]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _teacher_pixels(teacher: Any, setup: Setup) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make the function from the student's normalised pixels to the teacher's."""
    # apex converts only the model it trains.
    dtype = torch.float32 if setup.precision.apex_level is not None else setup.precision.input_dtype
    mean, std = teacher.visual.image_mean, teacher.visual.image_std
    is_same = (tuple(mean), tuple(std)) == (tuple(setup.mean), tuple(setup.std))
    if not is_same and not setup.params.recipe.distill_own_normalization:
        _LOG.warning(
            "the teacher was trained on pixels of mean %s and deviation %s and is given the student's; "
            "--distill-own-normalization gives it its own.",
            mean,
            std,
        )
    if is_same or not setup.params.recipe.distill_own_normalization:
        return lambda images: images.to(dtype or images.dtype)

    def renormalise(images: torch.Tensor) -> torch.Tensor:
        own = torch.tensor([mean, std, setup.mean, setup.std]).to(images.device, torch.float32)
        to_mean, to_std, from_mean, from_std = (row.view(-1, 1, 1) for row in own)
        pixels: torch.Tensor = (images.float() * from_std + from_mean - to_mean) / to_std
        return pixels.to(dtype or images.dtype)

    return renormalise
