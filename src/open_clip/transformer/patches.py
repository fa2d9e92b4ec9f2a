"""What happens to images and patch tokens before the blocks: checks, fixed position tables and patch dropout."""

import torch
from torch import Tensor, nn

from open_clip.errors import ConfigError
from open_clip.pos_embed import get_2d_sincos_pos_embed


def check_images(
    x: Tensor, num_channels: int | None, image_size: tuple[int, int], cells: tuple[int, int] | None, num_positions: int
) -> None:
    """Refuse images that an image tower cannot take, before a kernel says so in its own words.

    A table of positions that somebody has put in place of the tower's own is taken at its word.

    Args:
        x: images, [B, 3, H, W] in floating point.
        num_channels: channels the tower takes; None when it does not say.
        image_size: height and width the tower is made for.
        cells: height and width of what one position stands for; None where a tower takes other sizes.
        num_positions: rows of the tower's table of positions, with the one for the pooled token.

    Raises:
        ConfigError: they are no such batch, or of another size.
    """
    is_tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if type(x) is not Tensor or is_tracing or torch.compiler.is_compiling():
        return
    wanted = f"[batch, {num_channels or 3}, {image_size[0]}, {image_size[1]}]"
    if x.dim() != 4 or num_channels not in (None, x.shape[1]):
        raise ConfigError(
            f"the images are {list(x.shape)}, but this image tower takes {wanted}: use the model's own transform, and "
            "unsqueeze(0) for a single image."
        )
    if not x.is_floating_point():
        raise ConfigError(
            f"the images are of type {x.dtype}, but this image tower takes normalised floating point: use the model's "
            "own transform."
        )
    if cells is None:
        return
    made_for = (image_size[0] // cells[0], image_size[1] // cells[1])
    grid = (x.shape[2] // cells[0], x.shape[3] // cells[1])
    has_own_table = num_positions == 1 + made_for[0] * made_for[1]
    if grid != made_for and (has_own_table or num_positions != 1 + grid[0] * grid[1]):
        raise ConfigError(
            f"the images are {x.shape[2]}x{x.shape[3]}, but this image tower takes {image_size[0]}x{image_size[1]}: "
            "use the model's own transform, or make the model with force_image_size."
        )


def sin_cos_2d(embed_dim: int, grid_size: int, has_class_token: bool = False) -> Tensor:
    """Build the fixed position table of a square grid: columns first, then rows, each as sines then cosines.

    Returns:
        float32 [grid*grid (+ 1 zero row for the class token), embed_dim].

    Raises:
        ConfigError: the width is not a multiple of 4.

    Source: open_clip.pos_embed.get_2d_sincos_pos_embed (3.3.0), after arXiv 2111.06377.
    """
    if embed_dim % 4:
        raise ConfigError(f"pos_embed_type 'sin_cos_2d' needs a width that is a multiple of 4, not {embed_dim}.")
    return torch.from_numpy(get_2d_sincos_pos_embed(embed_dim, grid_size, cls_token=has_class_token)).float()


def expand_token(token: Tensor, batch_size: int) -> Tensor:
    """Repeat a token [D] for a batch without copying it: [B, 1, D]."""
    return token.view(1, 1, -1).expand(batch_size, -1, -1)


class PatchDropout(nn.Module):
    """Keep a random part of the patch tokens while training; the order of what is kept is random too.

    Source: arXiv 2212.00794.
    """

    def __init__(self, prob: float = 0.5, exclude_first_token: bool = True) -> None:
        super().__init__()
        if not 0.0 <= prob < 1.0:
            raise ConfigError(f"patch dropout is {prob}; it must be at least 0 and below 1.")
        self.prob = prob
        self.exclude_first_token = exclude_first_token

    def forward(self, x: Tensor) -> Tensor:
        """Drop tokens of ``x`` [B, L, D]; at least one stays, and the class token when ``exclude_first_token``."""
        if not self.training or self.prob == 0.0:
            return x
        num_prefix = 1 if self.exclude_first_token else 0
        prefix, patches = x[:, :num_prefix], x[:, num_prefix:]
        batch_size, num_patches = patches.shape[:2]
        num_kept = max(1, int(num_patches * (1 - self.prob)))
        kept = torch.randn(batch_size, num_patches, device=x.device).topk(num_kept, dim=-1).indices
        rows = torch.arange(batch_size, device=x.device).unsqueeze(-1)
        return torch.cat((prefix, patches[rows, kept]), dim=1)
