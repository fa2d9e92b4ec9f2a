"""What programs ask of a model: what it can do, never of which class it is. A model answers what applies to it.

Shapes: B rows, L tokens, S image tokens, D width, E embedding width.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from open_clip.transformer.freezing import LayerGroup
from open_clip.transformer.texts import Texts


@runtime_checkable
class EncodesImages(Protocol):
    """A model with an image encoder."""

    def encode_image(self, image: Tensor, normalize: bool = ...) -> Tensor:
        """Encode images [B, 3, H, W] as [B, E], scaled to length one when ``normalize``."""


@runtime_checkable
class EncodesTexts(Protocol):
    """A model with a text encoder."""

    def encode_text(self, text: Tensor | Texts, normalize: bool = ...) -> Tensor:
        """Encode texts or their token ids [B, L] as [B, E], scaled to length one when ``normalize``."""


@runtime_checkable
class TwoEncoders(EncodesImages, EncodesTexts, Protocol):
    """A model that compares images and texts."""


@runtime_checkable
class GivesImageTokens(Protocol):
    """A model whose image encoder can be read position by position."""

    def encode_image_tokens(self, image: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] as the tokens of their patches after the last norm, [B, S, D]."""


@runtime_checkable
class WritesCaptions(Protocol):
    """A model that writes a text for an image."""

    def generate(self, image: Tensor) -> Tensor:
        """Write a caption for each image [B, 3, H, W]: token ids [B, L]."""


@runtime_checkable
class SkipsPadding(Protocol):
    """A model whose text encoder may leave out what stands behind the end-of-text token."""

    def can_skip_padding(self) -> bool:
        """Tell whether ``Texts`` may have a layout: the result is the same, and no hook waits for the padding."""

    def text_reading(self) -> tuple[str, int]:
        """Say where the text tower is read: its ``pool_type`` and ``eos_id``; for a model that can skip padding."""

    def text_blocks(self) -> nn.Module:
        """Give the transformer that runs over texts without padding; for a model that can skip padding."""


@runtime_checkable
class SeparatesTexts(Protocol):
    """A model that encodes texts with weights of their own."""

    def unread_by_texts(self) -> tuple[str, ...]:
        """Give beginnings of the names of all weights that ``encode_text`` does not read."""


@runtime_checkable
class HasLayerGroups(Protocol):
    """A model that knows its layers in order, for freezing and for learning rates by depth."""

    def layer_groups(self) -> Mapping[str, Sequence[LayerGroup]]:
        """List each tower's parts from its input to its output: ``image``, ``text`` and what a family calls others."""


@runtime_checkable
class LocksImages(Protocol):
    """A model whose image tower can be frozen."""

    def lock_image_tower(self, unlocked_groups: int = ..., freeze_bn_stats: bool = ...) -> None:
        """Freeze the image tower but for its last groups of layers."""


@runtime_checkable
class LocksTexts(Protocol):
    """A model whose text tower can be frozen."""

    def lock_text_tower(self, unlocked_layers: int = ..., freeze_layer_norm: bool = ...) -> None:
        """Freeze the text tower but for its last groups of layers."""


@runtime_checkable
class ComputesAgain(Protocol):
    """A model that can compute activations a second time instead of keeping them."""

    def set_grad_checkpointing(self, enable: bool = ...) -> None:
        """Keep activations of blocks only, and compute the others again in the backward pass."""


@runtime_checkable
class SharesBatchNorms(Protocol):
    """A part of a model with batch norms of another library, which torch's own conversion would spoil."""

    def share_batch_norms(self) -> None:
        """Let these norms take their statistics over all processes together, in place."""
