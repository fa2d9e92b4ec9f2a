"""CLIP with its text tower's parts at the top level, as OpenAI laid it out. No loading, no tokenising."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.checked_json import JsonObject
from open_clip.errors import ConfigError
from open_clip.modeling.config import CLIPTextCfg, CLIPVisionCfg
from open_clip.modeling.contrastive import DEFAULT_LOGIT_SCALE, ContrastiveModel, TextIntermediatesOptions
from open_clip.modeling.towers import build_native_text_tower, build_vision_tower
from open_clip.transformer import text_global_pool
from open_clip.transformer.freezing import LayerGroup
from open_clip.transformer.text import lock_text_layers, project_pooled, text_layer_groups
from open_clip.transformer.text_rows import can_read_ends, embed_texts, encode_ends
from open_clip.transformer.texts import Texts, open_texts
from open_clip.transformer.types import Intermediates


class CLIP(ContrastiveModel):
    """Image tower ``visual`` and a native text tower whose parts are this module's own.

    Source: open_clip.model.CLIP (3.3.0): names, shapes and the order of the initial draws.
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
        text = build_native_text_tower(embed_dim, text_cfg, quick_gelu, cast_dtype)
        if text.cls_emb is not None:
            raise ConfigError("text_cfg has embed_cls, which needs the custom text layout; set custom_text to true.")
        self.transformer = text.transformer
        self.context_length = text.context_length
        self.vocab_size = text.vocab_size
        self.token_embedding = text.token_embedding
        self.positional_embedding = text.positional_embedding
        self.ln_final = text.ln_final
        self.text_projection = text.text_projection
        self.text_pool_type = text.pool_type
        self.text_eos_id = text.eos_id
        self.attn_mask: Tensor | None
        self.register_buffer("attn_mask", text.attn_mask, persistent=False)
        self._add_scale(init_logit_scale, init_logit_bias, nonscalar_logit_scale)

    def lock_text_tower(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze the text parts but for their last groups; with ``freeze_layer_norm=False`` norms stay trainable."""
        lock_text_layers(self, unlocked_layers, freeze_layer_norm)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: recompute each block in the backward pass."""
        self.visual.set_grad_checkpointing(enable)
        self.transformer.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay should leave alone."""
        return {"positional_embedding"} | {f"visual.{name}" for name in self.visual.no_weight_decay()}

    def _pool_text(self, x: Tensor, text: Tensor) -> Tensor:
        pooled = text_global_pool(self.ln_final(x), text, self.text_pool_type, self.text_eos_id)
        return project_pooled(pooled, self.text_projection)

    def own_matrices(self) -> list[Tensor | None]:
        """List what goes to half precision besides layers; a projection with a bias is a layer."""
        return [self.text_projection] if isinstance(self.text_projection, Tensor) else []

    def _text_groups(self) -> list[LayerGroup]:
        return text_layer_groups(self)

    def text_reading(self) -> tuple[str, int]:
        """Say where texts are read: ``pool_type`` and ``eos_id``."""
        return self.text_pool_type, self.text_eos_id

    def text_blocks(self) -> nn.Module:
        """Give the transformer that runs over texts."""
        return self.transformer

    def can_skip_padding(self) -> bool:
        """Tell whether ``Texts`` may have a layout: the result is the same, and no hook waits for the padding."""
        return can_read_ends(self, self.text_pool_type)

    def encode_text(self, text: Tensor | Texts, normalize: bool = False) -> Tensor:
        """Encode texts or their token ids [T, L], L up to the context length, as [T, E].

        The tower is causal and read at the end-of-text token, so positions after the longest text's last token may be
        cut off without changing the result. ``Texts`` with a layout leave out what stands behind each text's; on the
        CPU that happens without one, too.

        Raises:
            ConfigError: the texts are longer than the context, or the layout is for another number of texts.
        """
        ids, layout = open_texts(text)
        if can_read_ends(self, self.text_pool_type, layout):
            ends = encode_ends(self, ids, self.text_pool_type, self.text_eos_id, layout)
            features = project_pooled(self.ln_final(ends), self.text_projection)
        else:
            x = self.transformer(embed_texts(self, ids), is_causal=self.attn_mask is not None)
            features = self._pool_text(x, ids)
        return F.normalize(features, dim=-1) if normalize else features

    def _text_intermediates(self, text: Tensor, options: TextIntermediatesOptions) -> Intermediates:
        # Upstream's passes over `stop_early` here.
        if options["output_fmt"] != "NLC":
            raise ConfigError(f"text_output_fmt is {options['output_fmt']!r}; texts have no other form than NLC.")
        x, collected = self.transformer.forward_intermediates(
            embed_texts(self, text), None, options["indices"], is_causal=self.attn_mask is not None
        )
        if options["normalize_intermediates"]:
            collected = [self.ln_final(tokens) for tokens in collected]
        output: Intermediates = {"text_intermediates": collected}
        if not options["intermediates_only"]:
            output["text_features"] = self._pool_text(x, text)
        return output
