"""Contrastive loss plus distillation from a teacher's scores. Running the teacher is the task's job."""

import torch
import torch.nn.functional as F
from torch import Tensor

from open_clip.loss.clip import ClipLoss
from open_clip.loss.distill_tiles import Features, distillation_losses


class DistillClipLoss(ClipLoss):
    """CLIP's loss and the cross entropy of the student's scores against a teacher's, in both directions.

    Source: open_clip.loss.DistillClipLoss (3.3.0).
    """

    def dist_loss(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        """Return the cross entropy of the rows of two score matrices of one shape."""
        rows = -(teacher_logits.softmax(dim=1) * F.log_softmax(student_logits, dim=1)).sum(dim=1)
        return rows.mean()

    def forward(  # type: ignore[override]
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        dist_image_features: Tensor,
        dist_text_features: Tensor,
        dist_logit_scale: Tensor,
        output_dict: bool = False,
    ) -> tuple[Tensor, Tensor] | dict[str, Tensor]:
        """Return (contrastive, distillation) of student and teacher features [B, E], as a pair or a dict."""
        student = (image_features, text_features, logit_scale)
        teacher = (dist_image_features, dist_text_features, dist_logit_scale)
        tile_rows = self._tile_rows(len(image_features))
        if tile_rows and self._is_known(teacher):
            contrastive, distilled = distillation_losses(student, teacher, tile_rows=tile_rows, shares=self._shares())
        else:
            contrastive, distilled = self._plain_losses(student, teacher)
        if output_dict:
            return {"contrastive_loss": contrastive, "distill_loss": distilled}
        return contrastive, distilled

    def _is_known(self, teacher: Features) -> bool:
        """Tell whether tiles know how to compute this: not for one-way gradients, trained teachers, other losses."""
        is_trained = torch.is_grad_enabled() and any(
            isinstance(tensor, Tensor) and tensor.requires_grad for tensor in teacher
        )
        is_own = type(self).dist_loss is not DistillClipLoss.dist_loss
        return not (is_own or is_trained or self._is_one_way())

    def _plain_losses(self, student: Features, teacher: Features) -> tuple[Tensor, Tensor]:
        per_image, per_text = self.get_logits(*student)
        teacher_per_image, teacher_per_text = self.get_logits(*teacher)
        contrastive = self.contrastive_loss(per_image, per_text)
        distilled = (self.dist_loss(teacher_per_image, per_image) + self.dist_loss(teacher_per_text, per_text)) / 2
        return contrastive, distilled
