"""Contrastive image-text training (CLIP, arXiv 2103.00020)."""

import math
from typing import Any

import torch

from open_clip.errors import ConfigError
from open_clip.loss import ClipLoss, SigLipLoss
from open_clip.protocols import TwoEncoders, WritesCaptions
from open_clip.transform import normalize_images
from open_clip.transformer.texts import Texts
from training.data import Batch, Field, FieldKit
from training.distributed import World, unwrap_model
from training.evaluate import Evaluation, EvaluationKit, pair_evaluations
from training.params import RunParams
from training.tasks.base import Outputs, Setup, Task

# The paper's bound: logits are never scaled by more than 100.
MAX_LOG_SCALE = math.log(100)


class ClipTask(Task):
    """Train a two-tower model so that each image finds its own caption in the global batch and back."""

    name = "clip"
    encodes_apart = True

    def __init__(
        self,
        model: torch.nn.Module,
        loss: ClipLoss | SigLipLoss,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        input_dtype: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self.loss: ClipLoss | SigLipLoss = loss
        self.mean = mean
        self.std = std
        self.input_dtype = input_dtype

    @classmethod
    def check(cls, params: RunParams, world: World) -> None:
        """Refuse to train on one pair a step where the loss compares pairs with each other."""
        pairs = params.data.batch_size * params.optim.accum_freq * world.world_size
        if params.data.trains and pairs == 1 and not cls._learns_from_one(params):
            raise ConfigError(
                "the contrastive loss of a single pair is always 0, so nothing would be learned: --batch-size, "
                "--accum-freq and the number of processes are all 1. Give --batch-size 2 or more, or --siglip, which "
                "learns from one."
            )

    @classmethod
    def why_not(cls, model: torch.nn.Module) -> str | None:
        """Refuse models that do not compare images with texts, and those that write captions besides."""
        if isinstance(model, WritesCaptions):
            return "it writes captions, which --task coca trains"
        if isinstance(model, TwoEncoders) and hasattr(model, "logit_scale"):
            return None
        return "it does not compare images with texts: it needs two encoders and a logit_scale"

    @classmethod
    def _learns_from_one(cls, params: RunParams) -> bool:
        return False

    @classmethod
    def build(cls, setup: Setup) -> "ClipTask":
        """Make it with CLIP's loss."""
        return cls(setup.model, ClipLoss(**loss_options(setup)), **setup.options)

    @classmethod
    def fields(cls, kit: FieldKit, params: RunParams) -> tuple[Field, ...]:
        """Read images and their captions."""
        return kit.image(), kit.text()

    def prepare(self, batch: Batch) -> Batch:
        """Normalise the images; [B, 3, H, W] uint8 becomes the model's float type."""
        images = normalize_images(batch.images, self.mean, self.std)
        return batch._replace(images=images if self.input_dtype is None else images.to(self.input_dtype))

    def forward(self, batch: Batch) -> Outputs:
        """Encode both sides: image_features and text_features [B, E], logit_scale []."""
        self.text_shapes |= batch.texts.fixed_shapes()
        return name_outputs(self.model(batch.images, batch.texts.for_model()))

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Encode prepared images alone, [B, E] normalised; for evaluation, where the model is no wrapper's."""
        return self._encoders().encode_image(images, normalize=True)

    def encode_texts(self, texts: Texts) -> torch.Tensor:
        """Encode texts alone, [B, E] normalised."""
        return self._encoders().encode_text(texts.for_model(), normalize=True)

    def row_outputs(self) -> tuple[str, ...]:
        """Name the features."""
        return ("image_features", "text_features")

    def joint_losses(self, outputs: Outputs) -> Outputs:
        """Compute the contrastive loss over the global batch."""
        named: Outputs = self.loss(**outputs, output_dict=True)
        return named

    def evaluations(self, kit: EvaluationKit) -> tuple[Evaluation, ...]:
        """Make retrieval and zero-shot classification, each where the run has data for it."""
        return pair_evaluations(kit)

    @torch.no_grad()
    def clamp(self) -> None:
        """Clamp the logit scale to [0, ln 100]."""
        self._log_scale().clamp_(0, MAX_LOG_SCALE)

    def figures(self) -> Outputs:
        """Give exp(logit_scale)."""
        return {"logit_scale": self._log_scale().detach().float().exp()}

    def _encoders(self) -> TwoEncoders:
        model = unwrap_model(self.model)
        assert isinstance(model, TwoEncoders)
        return model

    def _log_scale(self) -> torch.Tensor:
        scale = unwrap_model(self.model).logit_scale
        assert isinstance(scale, torch.Tensor)
        return scale


def loss_options(setup: Setup) -> dict[str, Any]:
    """Give what contrastive losses take: the place of the process, and how scores are computed."""
    return {
        "local_loss": setup.params.distributed.local_loss,
        # Without it each process would get 1/world_size of the towers' gradient: other results on more devices.
        "gather_with_grad": True,
        "cache_labels": True,
        "rank": setup.world.rank,
        "world_size": setup.world.world_size,
        "tile_rows": setup.params.recipe.loss_tile_rows,
    }


def name_outputs(outputs: Outputs | tuple[torch.Tensor | None, ...]) -> Outputs:
    """Name what a contrastive model returns, whichever of its two forms that has; what it lacks is left out."""
    if not isinstance(outputs, dict):
        names = ("image_features", "text_features", "logit_scale", "logit_bias")
        return {name: value for name, value in zip(names, outputs, strict=False) if value is not None}
    return {name: value for name, value in outputs.items() if value is not None}
