"""Contrastive loss plus distillation from a teacher's scores. Running the teacher is the task's job."""

import torch.nn.functional as F
from torch import Tensor

from open_clip.loss.clip import ClipLoss


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
        per_image, per_text = self.get_logits(image_features, text_features, logit_scale)
        teacher_per_image, teacher_per_text = self.get_logits(dist_image_features, dist_text_features, dist_logit_scale)
        contrastive = self.contrastive_loss(per_image, per_text)
        distilled = (self.dist_loss(teacher_per_image, per_image) + self.dist_loss(teacher_per_text, per_text)) / 2
        if output_dict:
            return {"contrastive_loss": contrastive, "distill_loss": distilled}
        return contrastive, distilled
