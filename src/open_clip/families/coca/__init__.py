"""CoCa: two towers, and a decoder that writes captions from what both see."""

from typing import Any

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError
from open_clip.families.coca.model import CoCa
from open_clip.families.towers import TowerFamily
from open_clip.loss import CoCaLoss


class CoCaFamily(TowerFamily):
    """Captioners, whose decoder is described by ``multimodal_cfg``."""

    name = "coca"
    model_class = CoCa

    def check(self, model_cfg: JsonObject) -> None:
        """Check towers and decoder."""
        super().check(model_cfg)
        if model_cfg.get("multimodal_cfg") is None:
            raise ConfigError("it has no multimodal_cfg, which describes the decoder that a CoCa has.")

    def create_loss(self, args: Any, ranks: JsonObject, options: JsonObject) -> CoCaLoss:
        """Make the contrastive and the caption loss, weighted as the flags say."""
        return CoCaLoss(
            caption_loss_weight=args.coca_caption_loss_weight,
            clip_loss_weight=args.coca_contrastive_loss_weight,
            **options,
        )


FAMILY = CoCaFamily()
