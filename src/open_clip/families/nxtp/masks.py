"""What each position of a sequence may see. Tensors on their device only: no loop over labels, nothing read back.

Shapes: B rows, S image tokens, L text positions, T = S + L. True = may see; every position sees at least one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from open_clip.families.nxtp.sequences import LabelSequences


def training_mask(
    sequences: LabelSequences,
    num_image_tokens: int,
    *,
    bidirectional_image: bool = True,
    separate_labels: bool = True,
) -> Tensor:
    """Say what may be seen where labels are known, bool [B, 1, T, T].

    A position sees the prompt and the image as far as they stand before it, and of the labels those tokens of its own
    that stand before it. Whether the last label sees itself depends on its delimiter: without one, as in the mode
    ``public``, it belongs to no label that is counted.

    Args:
        sequences: The texts.
        num_image_tokens: S.
        bidirectional_image: Image tokens see each other.
        separate_labels: Off, every position sees all before it.
    """
    causal = prompt_mask(
        num_image_tokens, sequences.ids.shape[1], bidirectional_image=bidirectional_image, device=sequences.ids.device
    )
    if not separate_labels:
        return causal.expand(len(sequences.ids), -1, -1, -1)
    places = torch.arange(causal.shape[-1], device=causal.device)
    is_prompt = places <= (sequences.answers + num_image_tokens)[:, None]
    segments = F.pad(sequences.segments, (num_image_tokens, 0))
    is_counted = segments < sequences.delimiters[:, None]
    is_own = (segments[:, :, None] == segments[:, None, :]) & is_counted[:, :, None]
    return causal & (is_prompt[:, None, :] | is_own)[:, None]


def prompt_mask(
    num_image_tokens: int,
    length: int,
    *,
    bidirectional_image: bool = True,
    device: torch.device | str | None = None,
) -> Tensor:
    """Say what may be seen of an image and ``length`` text positions without labels, bool [1, 1, T, T]."""
    places = torch.arange(num_image_tokens + length, device=device)
    mask = places[None, :] <= places[:, None]
    if bidirectional_image:
        is_image = places < num_image_tokens
        mask = mask | (is_image[:, None] & is_image[None, :])
    return mask[None, None]
