"""What contrastive models share: the call contract, logits and intermediates. How text is encoded is theirs.

Shapes: B images, T texts, E embedding width.
"""

import math
from abc import abstractmethod
from typing import Literal, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.checkpoint.keys import convert_state_dict, convert_to_custom_text_state_dict
from open_clip.errors import ConfigError
from open_clip.modeling.towers import ImageTower, TextTower
from open_clip.transformer.freezing import LayerGroup
from open_clip.transformer.texts import Texts, open_texts
from open_clip.transformer.types import Intermediates

DEFAULT_LOGIT_SCALE = math.log(1 / 0.07)


class TextIntermediatesOptions(TypedDict):
    """What ``forward_intermediates`` of a text tower takes beside the texts."""

    indices: int | list[int] | None
    stop_early: bool
    normalize_intermediates: bool
    intermediates_only: bool
    output_fmt: Literal["NLC"]
    output_extra_tokens: bool


class ContrastiveModel(nn.Module):
    """An image tower ``visual``, a text tower in whatever form, a scale and perhaps a bias."""

    visual: ImageTower
    logit_scale: nn.Parameter
    logit_bias: nn.Parameter | None
    context_length: int
    output_dict: bool
    # What it was made of, where a factory made it.
    origin: object

    def _add_scale(self, init_logit_scale: float, init_logit_bias: float | None, nonscalar: bool) -> None:
        """Add the learned scale, kept as a logarithm, and the bias unless it is None; [] or, ``nonscalar``, [1]."""
        one = torch.ones([1] if nonscalar else [])
        self.logit_scale = nn.Parameter(one * init_logit_scale)
        self.logit_bias = None if init_logit_bias is None else nn.Parameter(one * init_logit_bias)

    def lock_image_tower(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze the image tower but for its last ``unlocked_groups`` groups of layers."""
        self.visual.lock(unlocked_groups=unlocked_groups, freeze_bn_stats=freeze_bn_stats)

    def encode_image_tokens(self, image: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] as the tokens of their patches after the last norm, [B, S, D].

        Raises:
            ConfigError: the image tower does not give its tokens.
        """
        found = self.visual.forward_intermediates(
            image, 1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
        )
        tokens: Tensor = found["image_intermediates"][-1]
        return tokens

    def unread_by_texts(self) -> tuple[str, ...]:
        """Give beginnings of the names of all weights that ``encode_text`` does not read."""
        return ("visual.", "logit_")

    def layer_groups(self) -> dict[str, list[LayerGroup]]:
        """List each tower's parts from its input to its output; a decoder and the scale stand in no group."""
        return {"image": self.visual.layer_groups(), "text": self._text_groups()}

    @abstractmethod
    def _text_groups(self) -> list[LayerGroup]:
        """List the text tower's parts from its input to its output."""

    @abstractmethod
    def lock_text_tower(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze the text tower but for its last ``unlocked_layers`` groups of layers."""

    @abstractmethod
    def encode_text(self, text: Tensor | Texts, normalize: bool = False) -> Tensor:
        """Encode texts or their token ids [T, L] as [T, E], scaled to length one when ``normalize``."""

    @abstractmethod
    def _text_intermediates(self, text: Tensor, options: TextIntermediatesOptions) -> Intermediates:
        """Encode token ids [T, L] and collect block outputs; see ``TextTransformer.forward_intermediates``."""

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Encode images [B, 3, H, W] as [B, E], scaled to length one when ``normalize``."""
        features: Tensor = self.visual(image)
        return F.normalize(features, dim=-1) if normalize else features

    def get_logits(self, image: Tensor, text: Tensor | Texts) -> tuple[Tensor, Tensor]:
        """Score images against texts: ([B, T], [T, B]), with scale and bias."""
        image_features = self.encode_image(image, normalize=True)
        text_features = self.encode_text(text, normalize=True)
        return self._score(image_features, text_features)

    def _score(self, image_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
        image_logits = self.logit_scale.exp() * image_features @ text_features.mT
        if self.logit_bias is not None:
            image_logits = image_logits + self.logit_bias
        return image_logits, image_logits.transpose(0, -1)

    def forward(
        self, image: Tensor | None = None, text: Tensor | Texts | None = None
    ) -> dict[str, Tensor | None] | tuple[Tensor | None, ...]:
        """Encode what is given, normalised.

        Returns:
            (image features [B, E] or None, text features [T, E] or None, scale), plus the bias when the model has one;
            with ``output_dict`` the same as a dict.
        """
        image_features = None if image is None else self.encode_image(image, normalize=True)
        text_features = None if text is None else self.encode_text(text, normalize=True)
        output: dict[str, Tensor | None] = {
            "image_features": image_features,
            "text_features": text_features,
            "logit_scale": self.logit_scale.exp(),
        }
        if self.logit_bias is not None:
            output["logit_bias"] = self.logit_bias
        return output if self.output_dict else tuple(output.values())

    def forward_intermediates(
        self,
        image: Tensor | None = None,
        text: Tensor | Texts | None = None,
        image_indices: int | list[int] | None = None,
        text_indices: int | list[int] | None = None,
        stop_early: bool = False,
        normalize: bool = True,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        image_output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        image_output_extra_tokens: bool = False,
        text_output_fmt: Literal["NLC"] = "NLC",
        text_output_extra_tokens: bool = False,
        output_logits: bool = False,
        output_logit_scale_bias: bool = False,
    ) -> Intermediates:
        """Encode what is given and collect the outputs of some blocks.

        The ``*_indices`` name the blocks: None = all, n = the last n, a list = those (negatives from the end);
        ``stop_early`` skips the blocks after the last one collected. ``normalize`` scales the final features to length
        one, ``normalize_intermediates`` passes what is collected through the towers' final norms and
        ``intermediates_only`` leaves out features and logits.

        Returns:
            A dict with ``image_intermediates``, ``image_features``, ``text_intermediates``, ``text_features`` and what
            was asked for besides.

        Raises:
            ConfigError: logits are asked for and an image or a text is missing, or a tower refuses its options.
        """
        output_logits = output_logits and not intermediates_only
        if output_logits and (image is None or text is None):
            raise ConfigError("forward_intermediates: output_logits=True needs both an image and a text.")
        output: Intermediates = {}
        if image is not None:
            output |= self.visual.forward_intermediates(
                image,
                image_indices,
                stop_early,
                normalize_intermediates,
                intermediates_only,
                image_output_fmt,
                image_output_extra_tokens,
            )
        if text is not None:
            options: TextIntermediatesOptions = {
                "indices": text_indices,
                "stop_early": stop_early,
                "normalize_intermediates": normalize_intermediates,
                "intermediates_only": intermediates_only,
                "output_fmt": text_output_fmt,
                "output_extra_tokens": text_output_extra_tokens,
            }
            output |= self._text_intermediates(open_texts(text)[0], options)
        for name in ("image_features", "text_features"):
            if normalize and name in output:
                output[name] = F.normalize(output[name], dim=-1)
        if output_logits:
            output["image_logits"], output["text_logits"] = self._score(
                output["image_features"], output["text_features"]
            )
        if output_logit_scale_bias:
            output["logit_scale"] = self.logit_scale.exp()
            if self.logit_bias is not None:
                output["logit_bias"] = self.logit_bias
        return output


class TwoTowerModel(ContrastiveModel):
    """A contrastive model that holds its text tower whole, under ``text``."""

    text: TextTower

    def lock_text_tower(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze the text tower but for its last groups; with ``freeze_layer_norm=False`` its norms stay trainable."""
        self.text.lock(unlocked_layers, freeze_layer_norm)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: recompute each block in the backward pass."""
        self.visual.set_grad_checkpointing(enable)
        self.text.set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay should leave alone."""
        towers = {"visual": self.visual, "text": self.text}
        return {f"{place}.{name}" for place, tower in towers.items() for name in tower.no_weight_decay()}

    def convert_weights(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Bring weights of other projects, and those of a CLIP, into this model's layout."""
        return convert_to_custom_text_state_dict(convert_state_dict(self, state_dict))

    def _text_groups(self) -> list[LayerGroup]:
        return self.text.layer_groups()

    def _text_intermediates(self, text: Tensor, options: TextIntermediatesOptions) -> Intermediates:
        return self.text.forward_intermediates(text, **options)
