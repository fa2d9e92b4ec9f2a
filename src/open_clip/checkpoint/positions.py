"""Resizing learned position tables to a model of another size. Fixed tables and other weights are left alone.

Source: open_clip.model.resize_pos_embed and resize_text_pos_embed (3.3.0).
"""

import logging
import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.errors import CheckpointError

_logger = logging.getLogger(__name__)


def resize_pos_embed(
    state_dict: dict[str, Tensor], model: nn.Module, interpolation: str = "bicubic", antialias: bool = True
) -> None:
    """Resize ``visual.positional_embedding`` in place to the model's grid; the class token's row is kept as it is.

    Towers without a ``grid_size`` and tables that fit already are left alone.

    Raises:
        CheckpointError: the table's rows are no square grid.
    """
    key = "visual.positional_embedding"
    table = state_dict.get(key)
    visual: Any = getattr(model, "visual", None)
    # A table of another kind is told with all else that does not fit.
    if table is None or not hasattr(visual, "grid_size") or table.dim() != 2 or table.shape[0] < 2:
        return
    rows, columns = visual.grid_size
    if table.shape[0] == 1 + rows * columns:
        return
    class_row, grid = table[:1], table[1:]
    old_side = math.isqrt(grid.shape[0])
    if old_side * old_side != grid.shape[0]:
        raise CheckpointError(f"{key} has {grid.shape[0]} patch rows, which is no square grid; it cannot be resized.")
    _logger.info("Resizing the image positions from %dx%d to %dx%d.", old_side, old_side, rows, columns)
    # In fp32 whatever the table is in: not every torch interpolates half types on the CPU.
    image = grid.float().reshape(1, old_side, old_side, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=(rows, columns), mode=interpolation, antialias=antialias, align_corners=False)
    resized = image.permute(0, 2, 3, 1).reshape(rows * columns, -1).to(table.dtype)
    state_dict[key] = resized.new_empty(1 + rows * columns, resized.shape[1])
    state_dict[key][:1], state_dict[key][1:] = class_row, resized


def resize_text_pos_embed(
    state_dict: dict[str, Tensor], model: nn.Module, interpolation: str = "linear", antialias: bool = False
) -> None:
    """Resize the text tower's position table in place to the model's context length.

    Raises:
        CheckpointError: the widths differ.
    """
    key = "text.positional_embedding" if "text.positional_embedding" in state_dict else "positional_embedding"
    table = state_dict.get(key)
    target = getattr(getattr(model, "text", model), "positional_embedding", None)
    if table is None or target is None or table.shape == target.shape or table.dim() != 2 or not table.numel():
        return
    if table.shape[1] != target.shape[1]:
        raise CheckpointError(
            f"{key} is {table.shape[1]} wide in the file and {target.shape[1]} in the model; "
            "only its length can be resized."
        )
    _logger.info("Resizing the text positions from %d to %d.", table.shape[0], target.shape[0])
    line = table.float().T.unsqueeze(0)
    align_corners = None if interpolation in ("nearest", "area") else False
    line = F.interpolate(
        line, size=target.shape[0], mode=interpolation, antialias=antialias, align_corners=align_corners
    )
    state_dict[key] = line.squeeze(0).T.to(table.dtype).contiguous()
