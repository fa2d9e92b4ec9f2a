"""Training of captioners: contrastive and caption loss together (CoCa, arXiv 2205.01917).

Shapes: B rows, T predicted tokens a row, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from open_clip.loss import CoCaLoss
from open_clip.protocols import WritesCaptions
from training.data import Batch
from training.distributed import World, is_sharded, mean_over_processes
from training.params import RunParams
from training.tasks.base import Outputs, Setup
from training.tasks.clip import ClipTask, loss_options


class CoCaTask(ClipTask):
    """Train a CoCa: each image finds its caption, and the decoder writes it token by token.

    The caption loss is the mean over all tokens of the step that are no padding, on all processes and in all batches of
    an accumulated step, so it does not depend on how the step is cut up. It couples no rows: each batch adds its share,
    and the scores of all words, [B, T, V], are never cached.
    """

    name = "coca"
    loss: CoCaLoss
    # The decoder writes a caption from its image: evaluation reports its loss for each pair.
    encodes_apart = False

    def __init__(self, model: torch.nn.Module, loss: CoCaLoss, *, world: World, **options: Any) -> None:
        super().__init__(model, loss, **options)
        self._world = world

    @classmethod
    def _learns_from_one(cls, params: RunParams) -> bool:
        return params.recipe.coca_caption_loss_weight > 0

    @classmethod
    def why_not(cls, model: torch.nn.Module) -> str | None:
        """Refuse models that write no captions."""
        return None if isinstance(model, WritesCaptions) else "it writes no captions"

    @classmethod
    def build(cls, setup: Setup) -> "CoCaTask":
        """Make it with both losses, weighted as the flags say."""
        recipe = setup.params.recipe
        loss = CoCaLoss(
            caption_loss_weight=recipe.coca_caption_loss_weight,
            clip_loss_weight=recipe.coca_contrastive_loss_weight,
            **loss_options(setup),
        )
        return cls(setup.model, loss, world=setup.world, **setup.options)

    def row_outputs(self) -> tuple[str, ...]:
        """Name the features, unless the contrastive loss is switched off by a weight of 0."""
        return super().row_outputs() if self.loss.clip_loss_weight else ()

    @torch.no_grad()
    def encode_rows(self, batch: Batch) -> Outputs:
        """Encode both sides without running the decoder."""
        if is_sharded(self.model):
            # Only the whole forward gathers the weights of a model that is spread over the processes.
            return super().encode_rows(batch)
        model = self._encoders()
        return {"image_features": model.encode_image(batch.images), "text_features": model.encode_text(batch.texts.ids)}

    def step_totals(self, batches: Sequence[Batch]) -> Outputs:
        """Count the tokens to be predicted in the whole step, a process's share of them, without a host sync."""
        counts = [(batch.texts.ids[:, 1:] != self.loss.pad_id).sum() for batch in batches]
        return {"num_tokens": mean_over_processes(torch.stack(counts).sum().float(), self._world)}

    def joint_losses(self, outputs: Outputs) -> Outputs:
        """Compute the contrastive loss over the global batch, times its weight."""
        weight = self.loss.clip_loss_weight
        if not weight:
            return {"contrastive_loss": self._no_loss(outputs)}
        pairs = self.loss.pair_loss(
            outputs["image_features"], outputs["text_features"], outputs["logit_scale"], outputs.get("logit_bias")
        )
        return {"contrastive_loss": weight * pairs}

    def _no_loss(self, outputs: Outputs) -> torch.Tensor:
        """Give a zero; with several processes one that reaches every parameter, as each of them must get a gradient."""
        if not self._world.is_distributed:
            return torch.zeros((), device=outputs["logit_scale"].device)
        names = ("image_features", "text_features", "logit_scale", "logit_bias")
        return 0.0 * torch.stack([outputs[name].float().sum() for name in names if name in outputs]).sum()

    def row_losses(self, outputs: Outputs) -> Outputs:
        """Compute a batch's share of the caption loss, times its weight."""
        # Summed in fp32: a sum of many tokens does not fit in half precision.
        total = _token_losses(outputs, ignore_index=self.loss.pad_id).float().sum()
        # As processes average their gradients, each divides by its share of the tokens and not by all.
        return {"caption_loss": self.loss.caption_loss_weight * total / outputs["num_tokens"].clamp(min=1e-6)}

    def row_metrics(self, outputs: Outputs) -> Outputs:
        """Compute each row's mean loss over all positions, padding too.

        Source: open_clip 3.3.0, ``maybe_compute_generative_loss``.
        """
        losses = _token_losses(outputs).float()
        return {"val_generative_loss": losses.view_as(outputs["labels"]).mean(dim=1)}


def _token_losses(outputs: Outputs, ignore_index: int = -100) -> torch.Tensor:
    """Give the cross entropy of every token, [B * T]; classes last, so that the scores are read without a copy."""
    scores, labels = outputs["logits"].flatten(0, 1), outputs["labels"].flatten()
    return F.cross_entropy(scores, labels, reduction="none", ignore_index=ignore_index)
