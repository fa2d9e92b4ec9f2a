"""Contrastive image-text training (CLIP, arXiv 2103.00020)."""

import math

import torch

from open_clip import CoCa
from open_clip.errors import ConfigError
from open_clip.loss import ClipLoss
from open_clip.transform import normalize_images
from training.data import Batch
from training.distributed import unwrap_model
from training.tasks.base import Outputs, Task

# The paper's bound: logits are never scaled by more than 100.
MAX_LOG_SCALE = math.log(100)


class ClipTask(Task):
    """Train a two-tower model so that each picture finds its own caption in the global batch and back.

    Raises:
        ConfigError: The model also writes captions, which this recipe does not train.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: ClipLoss,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        input_dtype: torch.dtype | None = None,
    ) -> None:
        if isinstance(unwrap_model(model), CoCa):
            raise ConfigError(
                "the model is a CoCa, and the trainer has no captioning recipe yet: choose a --model of two towers, "
                "such as ViT-B-32."
            )
        self.model = model
        self.loss = loss
        self.mean = mean
        self.std = std
        self.input_dtype = input_dtype

    def prepare(self, batch: Batch) -> Batch:
        """Normalise the pictures; [B, 3, H, W] uint8 becomes the model's float type."""
        images = normalize_images(batch.images, self.mean, self.std)
        return batch._replace(images=images if self.input_dtype is None else images.to(self.input_dtype))

    def forward(self, batch: Batch) -> Outputs:
        """Encode both sides: image_features and text_features [B, E], logit_scale []."""
        outputs = self.model(batch.images, batch.texts)
        if not isinstance(outputs, dict):
            names = ("image_features", "text_features", "logit_scale", "logit_bias")
            outputs = dict(zip(names, outputs, strict=False))
        return {name: value for name, value in outputs.items() if value is not None}

    def row_outputs(self) -> tuple[str, ...]:
        """Name the features."""
        return ("image_features", "text_features")

    def losses(self, outputs: Outputs) -> Outputs:
        """Compute the symmetric cross entropy over the global batch."""
        named: Outputs = self.loss(**outputs, output_dict=True)
        return named

    @torch.no_grad()
    def after_step(self) -> None:
        """Clamp the logit scale to [0, ln 100]."""
        self._log_scale().clamp_(0, MAX_LOG_SCALE)

    def logit_scale(self) -> torch.Tensor:
        """Give exp(logit_scale)."""
        return self._log_scale().detach().float().exp()

    def _log_scale(self) -> torch.Tensor:
        scale = unwrap_model(self.model).logit_scale
        assert isinstance(scale, torch.Tensor)
        return scale
