"""CLIP with a whole text tower under ``text``. No loading, no tokenising."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.checked_json import JsonObject
from open_clip.modeling.config import CLIPTextCfg, CLIPVisionCfg
from open_clip.modeling.contrastive import DEFAULT_LOGIT_SCALE, TwoTowerModel
from open_clip.modeling.towers import build_text_tower, build_vision_tower
from open_clip.transformer import TextTransformer
from open_clip.transformer.texts import Texts, open_texts


class CustomTextCLIP(TwoTowerModel):
    """Image tower ``visual`` and text tower ``text``, each a module of its own.

    Source: open_clip.model.CustomTextCLIP (3.3.0): names, shapes and the order of the initial draws.
    """

    def __init__(
        self,
        embed_dim: int,
        vision_cfg: CLIPVisionCfg | JsonObject,
        text_cfg: CLIPTextCfg | JsonObject,
        quick_gelu: bool = False,
        init_logit_scale: float = DEFAULT_LOGIT_SCALE,
        init_logit_bias: float | None = None,
        nonscalar_logit_scale: bool = False,
        cast_dtype: torch.dtype | None = None,
        output_dict: bool = False,
    ) -> None:
        super().__init__()
        self.output_dict = output_dict
        self.visual = build_vision_tower(embed_dim, vision_cfg, quick_gelu, cast_dtype)
        self.text = build_text_tower(embed_dim, text_cfg, quick_gelu, cast_dtype)
        self.context_length = self.text.context_length
        self.vocab_size = self.text.vocab_size
        self._add_scale(init_logit_scale, init_logit_bias, nonscalar_logit_scale)

    def text_reading(self) -> tuple[str, int]:
        """Say where texts are read: ``pool_type`` and ``eos_id``; of a native tower."""
        return self._native_text().pool_type, self._native_text().eos_id

    def text_blocks(self) -> nn.Module:
        """Give the transformer that runs over texts; of a native tower."""
        return self._native_text().transformer

    def _native_text(self) -> TextTransformer:
        assert isinstance(self.text, TextTransformer), "asked only where padding can be skipped"
        return self.text

    def can_skip_padding(self) -> bool:
        """Tell whether ``Texts`` may have a layout; not for towers that others made."""
        return isinstance(self.text, TextTransformer) and self.text.can_skip_padding()

    def encode_text(self, text: Tensor | Texts, normalize: bool = False) -> Tensor:
        """Encode texts or their token ids [T, L], L up to the context length, as [T, E].

        Cutting positions after the longest text's last token changes nothing where the tower is causal and read at the
        end-of-text token; other towers need the full length. For the former, ``Texts`` with a layout leave out what
        stands behind each text's last token; on the CPU that happens without one, too.

        Raises:
            ConfigError: the texts are longer than the context, or the layout is for another number of texts.
        """
        # Towers that others made know nothing but tensors.
        features: Tensor = self.text(text if isinstance(self.text, TextTransformer) else open_texts(text)[0])
        return F.normalize(features, dim=-1) if normalize else features
