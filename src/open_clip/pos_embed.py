"""Fixed sine and cosine position tables, under upstream's names. Resizing CLIP's own tables is done elsewhere.

Source: open_clip.pos_embed (3.3.0), after arXiv 2111.06377. Upstream's ``interpolate_pos_embed`` is for MAE's models.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor, nn

from open_clip.errors import CheckpointError, ConfigError

Table = npt.NDArray[np.float64]


def get_1d_sincos_pos_embed_from_grid(embed_dim: int, pos: npt.ArrayLike) -> Table:
    """Give each position [n] its sines, then its cosines: [n, embed_dim].

    Raises:
        ConfigError: the width is odd.
    """
    if embed_dim % 2:
        raise ConfigError(f"a sine and cosine table needs an even width, not {embed_dim}.")
    half = embed_dim // 2
    frequencies = 10000.0 ** -(np.arange(half, dtype=np.float64) / half)
    angles = np.outer(np.asarray(pos, dtype=np.float64).reshape(-1), frequencies)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def get_2d_sincos_pos_embed_from_grid(embed_dim: int, grid: npt.ArrayLike) -> Table:
    """Code two coordinates [2, ...] in half of the width each.

    Raises:
        ConfigError: the width is not a multiple of 4.
    """
    if embed_dim % 4:
        raise ConfigError(f"a table for a plane needs a width that is a multiple of 4, not {embed_dim}.")
    first, second = np.asarray(grid)
    halves = [get_1d_sincos_pos_embed_from_grid(embed_dim // 2, axis) for axis in (first, second)]
    return np.concatenate(halves, axis=1)


def get_2d_sincos_pos_embed(embed_dim: int, grid_size: int, cls_token: bool = False) -> Table:
    """Build the table of a square grid, columns coded before rows: [grid * grid (+ 1 zero row), embed_dim].

    Raises:
        ConfigError: the width is not a multiple of 4.
    """
    rows, columns = np.divmod(np.arange(grid_size * grid_size), grid_size)
    table = get_2d_sincos_pos_embed_from_grid(embed_dim, np.stack([columns, rows]))
    return np.concatenate([np.zeros((1, embed_dim)), table]) if cls_token else table


def interpolate_pos_embed(model: Any, checkpoint_model: dict[str, Tensor]) -> None:
    """Resize ``pos_embed`` [1, extra + n, D] of MAE's weights in place to the grid of ``model``, bicubic.

    Raises:
        CheckpointError: the rows are no square grid.
    """
    table = checkpoint_model.get("pos_embed")
    if table is None:
        return
    patch_embed: nn.Module = model.patch_embed
    num_patches = int(patch_embed.num_patches)  # type: ignore[arg-type]
    num_extra = int(model.pos_embed.shape[-2]) - num_patches
    old_side, new_side = round((table.shape[-2] - num_extra) ** 0.5), round(num_patches**0.5)
    if old_side == new_side:
        return
    extra, grid = table[:, :num_extra], table[:, num_extra:]
    if old_side * old_side != grid.shape[1]:
        raise CheckpointError(f"pos_embed has {grid.shape[1]} patch rows, which is no square grid.")
    image = grid.reshape(-1, old_side, old_side, table.shape[-1]).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=(new_side, new_side), mode="bicubic", align_corners=False)
    checkpoint_model["pos_embed"] = extra.new_empty(1, num_extra + num_patches, table.shape[-1])
    checkpoint_model["pos_embed"][:, :num_extra] = extra
    checkpoint_model["pos_embed"][:, num_extra:] = image.permute(0, 2, 3, 1).flatten(1, 2)
