"""Freezing a tower but for its last groups of layers (LiT style). What the groups are, the towers say."""

from collections.abc import Iterable

from torch import nn

LayerGroup = Iterable[nn.Module | nn.Parameter | None]


def _set_requires_grad(part: nn.Module | nn.Parameter | None, requires_grad: bool) -> None:
    if isinstance(part, nn.Module):
        part.requires_grad_(requires_grad)
    elif part is not None:
        part.requires_grad = requires_grad


def unlock_last_groups(groups: list[LayerGroup], unlocked: int) -> None:
    """Freeze every group but the last ``unlocked`` ones; those become trainable."""
    split = max(0, len(groups) - unlocked)
    for index, group in enumerate(groups):
        for part in group:
            _set_requires_grad(part, index >= split)


def unfreeze_norms(tower: nn.Module) -> None:
    """Make the layer norms of a frozen tower trainable again."""
    for module in tower.modules():
        if isinstance(module, nn.LayerNorm):
            module.requires_grad_(True)
