"""What a decoder's heads look at while they read an image and the prompt, and these maps as image files.

Shapes: B images, S image tokens (rows * columns of the grid), H heads.
"""

import io
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from open_clip.families.nxtp.attention_maps import attention_maps
from open_clip.families.nxtp.model import NextLabelModel
from open_clip.families.nxtp.rows import lay_out
from open_clip.families.nxtp.tokenizer import LabelTokenizer
from open_clip.files import make_folder, write_whole

# Pixels that a side of a map has at least in a file.
_LEAST_SIDE = 224


class AttentionMaps(NamedTuple):
    """Shares of attention, in fp32 at least; those of a position add up to one over all that it sees.

    Attributes:
        between_patches: What each image token (the last but one dimension) takes from each, [layers, B, H, S, S].
        of_labels: What the position that predicts labels takes from each image token, [layers, B, H, rows, columns].
    """

    between_patches: Tensor
    of_labels: Tensor


@torch.no_grad()
def read_attention_maps(
    model: NextLabelModel, images: Tensor, tokenizer: LabelTokenizer, prompt: str | None = None
) -> AttentionMaps:
    """Read images [B, 3, H, W] and a prompt, the model's own where None, and tell what each head looks at."""
    prefix = lay_out(model, images, tokenizer, prompt or model.label_cfg.prompt)
    shares = torch.stack(list(attention_maps(model.decoder, prefix.embeddings, prefix.mask, prefix.positions)))
    count = prefix.image_tokens.shape[1]
    of_labels = shares[..., -1, :count]
    return AttentionMaps(shares[..., :count, :count], of_labels.reshape(*of_labels.shape[:-1], *model.visual.grid_size))


def write_attention_maps(maps: AttentionMaps, folder: str | Path, names: list[str]) -> None:
    """Write two PNG files a layer and head for each image, white where a map is at its largest.

    Args:
        maps: Of B images.
        folder: Gets a folder for each image, with ``layer00-head00-patches.png`` and ``layer00-head00-labels.png``.
        names: Names of these folders, B of them.

    Raises:
        OSError: they cannot be written.
    """
    for number, name in enumerate(names):
        place = Path(folder) / name
        make_folder(place)
        for kind, shares in (("patches", maps.between_patches), ("labels", maps.of_labels)):
            for layer, heads in enumerate(shares[:, number].cpu()):
                for head, one in enumerate(heads):
                    write_whole(place / f"layer{layer:02d}-head{head:02d}-{kind}.png", _draw(one))


def _draw(shares: Tensor) -> bytes:
    """Draw a map [rows, columns] in grey, each value as a square of pixels."""
    scaled = shares / shares.max().clamp(min=torch.finfo(shares.dtype).tiny)
    times = max(1, -(-_LEAST_SIDE // max(shares.shape)))
    grey = (scaled * 255).round().to(torch.uint8).repeat_interleave(times, dim=0).repeat_interleave(times, dim=1)
    file = io.BytesIO()
    Image.fromarray(grey.numpy()).save(file, "PNG")
    return file.getvalue()
