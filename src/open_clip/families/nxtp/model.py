"""A ViT, a projection and a decoder that writes labels. No loading, no tokenizing, no search.

Shapes: B rows, S image tokens, L text positions, N positions asked about, D width of the decoder, V vocabulary.
"""

import torch
from torch import Tensor, nn

from open_clip.checked_json import JsonObject
from open_clip.checkpoint.keys import convert_state_dict
from open_clip.families.nxtp.config import EMPTY_TOKEN, LabelCfg, make_label_cfg
from open_clip.families.nxtp.convert import convert_public, is_public
from open_clip.families.nxtp.decoder import Decoder, DecoderCfg, make_decoder_cfg
from open_clip.families.nxtp.masks import training_mask
from open_clip.families.nxtp.sequences import LabelSequences
from open_clip.modeling.config import CLIPVisionCfg, make_cfg
from open_clip.modeling.towers import build_vision_tower
from open_clip.transformer import VisionTransformer
from open_clip.transformer.freezing import LayerGroup, unlock_last_groups


class NextLabelModel(nn.Module):
    """Predicts labels as the next tokens after an image: ``visual``, named as in CLIP, ``projection``, ``decoder``.

    Attributes:
        label_cfg: How labels are written.
        context_length: Positions of a whole sequence, those of the image included.
        vocab_size: V.

    Source: arXiv 2312.02142.
    """

    visual: VisionTransformer

    def __init__(
        self,
        vision_cfg: CLIPVisionCfg | JsonObject,
        decoder_cfg: DecoderCfg | JsonObject,
        label_cfg: LabelCfg | JsonObject | None = None,
        quick_gelu: bool = False,
        cast_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        vision, decoder = make_cfg(CLIPVisionCfg, vision_cfg), make_decoder_cfg(decoder_cfg)
        self.label_cfg = make_label_cfg(label_cfg)
        visual = build_vision_tower(vision.width, vision, quick_gelu, cast_dtype)
        assert isinstance(visual, VisionTransformer), "the family's check lets no other pass"
        # What is read is every patch's token, before the projection of CLIP's embedding.
        visual.proj = None
        self.visual = visual
        self.projection = nn.Linear(vision.width, decoder.width, bias=False)
        nn.init.normal_(self.projection.weight, std=vision.width**-0.5)
        self.decoder = Decoder(decoder, len(self.label_cfg.added_tokens))
        empty = decoder.vocab_size + list(self.label_cfg.added_tokens).index(EMPTY_TOKEN)
        nn.init.zeros_(self.decoder.head.weight[empty].detach())
        self.context_length, self.vocab_size = decoder.context_length, self.decoder.vocab_size

    @property
    def num_image_tokens(self) -> int:
        """Tokens that an image has, S."""
        rows, columns = self.visual.grid_size
        return rows * columns

    @property
    def text_context(self) -> int:
        """Text positions that there is room for behind an image."""
        return self.context_length - self.num_image_tokens

    def encode_image_tokens(self, image: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] as their patches after the tower's last norm, [B, S, width of it]."""
        found = self.visual.forward_intermediates(
            image, 1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
        )
        tokens: Tensor = found["image_intermediates"][-1]
        return tokens

    def prefix(self, image: Tensor) -> Tensor:
        """Encode images as what stands before a text, [B, S, D]."""
        projected: Tensor = self.projection(self.encode_image_tokens(image))
        return projected

    def forward(self, image: Tensor, sequences: LabelSequences, at: Tensor | None = None) -> Tensor:
        """Score what follows the text positions of sequences; wrappers for several processes are called by it.

        Args:
            image: [B, 3, H, W].
            sequences: The texts of these images.
            at: int64 [N], the positions that are asked about, as ``Targets`` has them; None for all.

        Returns:
            [N, V], or [B, L, V] for all; in fp32 at least.
        """
        prefix = self.prefix(image)
        embeddings = torch.cat([prefix, self.decoder.embed(sequences.ids)], dim=1)
        num_image_tokens = prefix.shape[1]
        mask = training_mask(
            sequences,
            num_image_tokens,
            bidirectional_image=self.label_cfg.bidirectional_image,
            separate_labels=self.label_cfg.separate_labels,
        )
        before = torch.arange(num_image_tokens, device=image.device).expand(len(image), -1)
        positions = torch.cat([before, sequences.positions + num_image_tokens], dim=1)
        hidden = self.decoder.run(embeddings, mask, positions)[:, num_image_tokens:]
        return self.decoder.score(hidden if at is None else hidden.flatten(0, 1)[at])

    def convert_weights(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Bring weights of the public NXTP, or an image tower of another project, into this model's layout.

        The public NXTP's files hold what it trained, not the whole model: load them with ``strict=False`` into a model
        whose image tower and decoder have their published weights.
        """
        if is_public(state_dict):
            return convert_public(state_dict, self.decoder.cfg)
        return convert_state_dict(self, state_dict)

    def lock_image_tower(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze the image tower but for its last groups: the last block with its norm, each before, the embeddings."""
        self.visual.lock(freeze_bn_stats=freeze_bn_stats)
        unlock_last_groups(self._image_groups(), unlocked_groups)

    def layer_groups(self) -> dict[str, list[LayerGroup]]:
        """List the parts of the image tower and of the decoder in order; the projection stands in no group."""
        return {"image": self._image_groups(), "decoder": self.decoder.layer_groups()}

    def _image_groups(self) -> list[LayerGroup]:
        # The tower's last group is its projection, which is not here.
        return self.visual.layer_groups()[:-1]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: recompute each block in the backward pass."""
        self.visual.set_grad_checkpointing(enable)
        self.decoder.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay should leave alone."""
        return {f"visual.{name}" for name in self.visual.no_weight_decay()} | {"decoder.token_embedding.weight"}
