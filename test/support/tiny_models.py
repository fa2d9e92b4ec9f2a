"""Tiny models and batches that run in milliseconds, for tests of anything that needs a model."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_clip import CLIP, CoCa, CustomTextCLIP

EOT = 599


def tiny_config(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **top_level: Any
) -> dict[str, Any]:
    """A model configuration of about a hundred thousand parameters, changed as asked."""
    vision_cfg = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8} | (vision or {})
    text_cfg = {"context_length": 16, "vocab_size": 600, "width": 64, "heads": 2, "layers": 2} | (text or {})
    return {"embed_dim": 64, "vision_cfg": vision_cfg, "text_cfg": text_cfg} | top_level


def tiny_clip(seed: int = 0, custom_text: bool = False, **config: Any) -> CLIP | CustomTextCLIP:
    """A tiny model in eval mode with the weights that the seed gives."""
    torch.manual_seed(seed)
    return (CustomTextCLIP if custom_text else CLIP)(**tiny_config(**config)).eval()


def tiny_coca_config(
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    decoder: dict[str, Any] | None = None,
    **top_level: Any,
) -> dict[str, Any]:
    """A tiny CoCa's configuration, changed as asked."""
    pool = {"attentional_pool": True, "attn_pooler_queries": 7, "attn_pooler_heads": 2, "output_tokens": True}
    tokens = {"embed_cls": True, "output_tokens": True, "context_length": 15}
    config = tiny_config(pool | (vision or {}), tokens | (text or {}), custom_text=True, **top_level)
    sizes = {"context_length": 15, "width": 64, "heads": 2, "layers": 2}
    return config | {"multimodal_cfg": sizes | (decoder or {})}


def tiny_coca(seed: int = 0, change: float = 0.0, **config: Any) -> CoCa:
    """A tiny CoCa in eval mode; ``change`` adds noise to its weights, so that its captions differ."""
    torch.manual_seed(seed)
    arguments = {key: value for key, value in tiny_coca_config(**config).items() if key != "custom_text"}
    model = CoCa(**arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape) * change
    return model


def tiny_batch(
    count: int = 3, context_length: int = 16, image_size: tuple[int, int] = (32, 32), seed: int = 5
) -> tuple[Tensor, Tensor]:
    """Images and texts for it; every text ends at its sixth token at the latest."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, *image_size, generator=generator)
    texts = torch.zeros(count, context_length, dtype=torch.long)
    for row in range(count):
        length = 2 + row % 4
        texts[row, :length] = torch.randint(1, EOT - 1, (length,), generator=generator)
        texts[row, length] = EOT
    return images, texts


def write_config(folder: Path, name: str, config: dict[str, Any]) -> Path:
    """Write a configuration where ``add_model_config`` finds it and return the file's path."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    return path
