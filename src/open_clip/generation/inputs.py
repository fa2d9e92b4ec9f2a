"""What transformers' generation asks of a model before each step, under upstream's name. Generates nothing."""

from typing import Any

from torch import Tensor

from open_clip.checked_json import JsonObject


def prepare_inputs_for_generation(input_ids: Tensor, image_inputs: Any, past: Any = None, **kwargs: Any) -> JsonObject:
    """Collect the inputs of a step: with ``past`` only the last token, positions counted over ``attention_mask``.

    Source: open_clip.coca_model.prepare_inputs_for_generation (3.3.0).
    """
    mask: Tensor | None = kwargs.get("attention_mask")
    positions: Tensor | None = kwargs.get("position_ids")
    if mask is not None and positions is None:
        positions = (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 1)
    return {
        "text": input_ids[:, -1:] if past else input_ids,
        "images": image_inputs,
        "past_key_values": past,
        "position_ids": positions,
        "attention_mask": mask,
    }
