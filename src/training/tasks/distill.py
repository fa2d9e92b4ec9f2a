"""Contrastive training of a student that also imitates a teacher's scores."""

from collections.abc import Callable
from typing import Any

import torch

from open_clip.errors import ConfigError
from open_clip.loss import DistillClipLoss
from open_clip.transformer.layout import can_skip_padding
from training.data import Batch, ReadingRule
from training.distributed import unwrap_model
from training.tasks.base import Outputs
from training.tasks.clip import ClipTask, name_outputs, run_model


class DistillTask(ClipTask):
    """Train a two-tower model on its pairs and on the scores that a frozen teacher gives them.

    The teacher runs in eval mode and without gradient, once a batch. ``to_teacher`` turns the student's pixels
    [B, 3, H, W] into the teacher's. A step of several batches caches the teacher's features as it does the student's,
    so its gradients are those of one large batch.

    Raises:
        ConfigError: the student has a logit bias, for which this loss has no place.
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
        if getattr(unwrap_model(model), "logit_bias", None) is not None:
            raise ConfigError(
                "--distill-model: the model to be trained has a logit bias, which distillation does not train; choose "
                "a --model without one."
            )
        self.teacher = teacher.eval().requires_grad_(False)
        self._to_teacher = to_teacher
        bare = unwrap_model(model)
        # Layouts are planned for the student: they fit a teacher that is read at the same token.
        self._teacher_takes_layout = (
            can_skip_padding(bare) and can_skip_padding(teacher) and ReadingRule.of(bare) == ReadingRule.of(teacher)
        )

    def row_outputs(self) -> tuple[str, ...]:
        """Name the features of student and teacher."""
        own = super().row_outputs()
        return (*own, *(f"dist_{name}" for name in own))

    @torch.no_grad()
    def fixed_outputs(self, batch: Batch) -> Outputs:
        """Run the teacher: its outputs, named dist_*."""
        fitting = batch if self._teacher_takes_layout else batch._replace(text_layout=None)
        outputs = name_outputs(run_model(self.teacher, self._to_teacher(batch.images), fitting))
        # A bias moves all scores of a row alike and so changes no share of them.
        return {f"dist_{name}": value for name, value in outputs.items() if name != "logit_bias"}
