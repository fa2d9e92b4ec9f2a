"""CoCa: a CLIP with a decoder that writes captions. The search for captions is ``open_clip.generation``'s job.

Shapes: B rows, L tokens, S image tokens, D width, E embedding width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError
from open_clip.generation.generate import Captioner
from open_clip.modeling.config import CLIPTextCfg, CLIPVisionCfg, MultimodalCfg, make_cfg
from open_clip.modeling.contrastive import DEFAULT_LOGIT_SCALE, TwoTowerModel
from open_clip.modeling.towers import build_text_decoder, build_text_tower, build_vision_tower
from open_clip.transformer.texts import Texts, open_texts


def _pooled_and_tokens(tower: nn.Module, inputs: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    output = tower(inputs)
    if not isinstance(output, tuple):
        raise ConfigError(f"CoCa needs the {kind} tower's tokens; set output_tokens to true in {kind}_cfg.")
    pooled, tokens = output
    return pooled, tokens


class CoCa(TwoTowerModel, Captioner):
    """Image tower ``visual``, text tower ``text`` and ``text_decoder``, which reads the tokens of both.

    Source: open_clip.coca_model.CoCa (3.3.0): names, shapes and the order of the initial draws; arXiv 2205.01917.
    """

    def __init__(
        self,
        embed_dim: int,
        multimodal_cfg: MultimodalCfg | JsonObject,
        text_cfg: CLIPTextCfg | JsonObject,
        vision_cfg: CLIPVisionCfg | JsonObject,
        quick_gelu: bool = False,
        init_logit_scale: float = DEFAULT_LOGIT_SCALE,
        init_logit_bias: float | None = None,
        nonscalar_logit_scale: bool = False,
        cast_dtype: torch.dtype | None = None,
        pad_id: int = 0,
    ) -> None:
        super().__init__()
        self.output_dict = True
        text_cfg = make_cfg(CLIPTextCfg, text_cfg)
        multimodal_cfg = make_cfg(MultimodalCfg, multimodal_cfg)
        # The text tower comes first here, and second in the other models: the order of the draws is upstream's.
        self.text = build_text_tower(embed_dim, text_cfg, quick_gelu, cast_dtype)
        self.visual = build_vision_tower(embed_dim, vision_cfg, quick_gelu, cast_dtype)
        self.text_decoder = build_text_decoder(text_cfg.vocab_size, multimodal_cfg, quick_gelu, cast_dtype)
        self._add_scale(init_logit_scale, init_logit_bias, nonscalar_logit_scale)
        self.pad_id = pad_id
        self.context_length = multimodal_cfg.context_length

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: recompute each block in the backward pass."""
        super().set_grad_checkpointing(enable)
        self.text_decoder.set_grad_checkpointing(enable)

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        """Encode images [B, 3, H, W] as [B, E], scaled to length one unless told otherwise."""
        features, _ = _pooled_and_tokens(self.visual, images, "vision")
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, text: Tensor | Texts, normalize: bool = True) -> Tensor:
        """Encode texts or their token ids [B, L] as [B, E], scaled to length one unless told otherwise."""
        features, _ = _pooled_and_tokens(self.text, open_texts(text)[0], "text")
        return F.normalize(features, dim=-1) if normalize else features

    def forward(  # type: ignore[override]
        self,
        image: Tensor | None = None,
        text: Tensor | Texts | None = None,
        image_latent: Tensor | None = None,
        image_embs: Tensor | None = None,
        output_labels: bool = True,
    ) -> dict[str, Tensor]:
        """Encode images [B, 3, H, W], or take them encoded, and with texts [B, L] score every next token.

        Returns:
            For images alone ``image_features`` [B, E], normalised, and ``image_embs`` [B, S, D]; with texts
            ``image_features``, ``text_features``, ``logits``, ``logit_scale``, ``labels`` when asked for and
            ``logit_bias`` when the model has one. With labels [B, L - 1], the texts without their first token, the
            logits are theirs, [B, L - 1, V]; without, one more that follows the last token, [B, L, V].

        Raises:
            ConfigError: there is neither an image nor its features and tokens, or a tower gives no tokens.
        """
        if image_latent is None or image_embs is None:
            if image is None:
                raise ConfigError("CoCa needs an image, or both image_latent and image_embs.")
            image_latent, image_embs = _pooled_and_tokens(self.visual, image, "vision")
            image_latent = F.normalize(image_latent, dim=-1)
        if text is None:
            return {"image_features": image_latent, "image_embs": image_embs}
        ids, _ = open_texts(text)
        text_latent, token_embs = _pooled_and_tokens(self.text, ids, "text")
        output = {
            "image_features": image_latent,
            "text_features": F.normalize(text_latent, dim=-1),
            # Each position is scored on what comes next, so with labels the last one, which has none, is left out.
            "logits": self.text_decoder(image_embs, token_embs[:, :-1] if output_labels else token_embs),
            "logit_scale": self.logit_scale.exp(),
        }
        if output_labels:
            output["labels"] = ids[:, 1:]
        if self.logit_bias is not None:
            output["logit_bias"] = self.logit_bias
        return output
