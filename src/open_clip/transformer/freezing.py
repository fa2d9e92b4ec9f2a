"""Freezing a tower but for its last groups of layers (LiT style), and batch norms. What the groups are, towers say."""

from collections.abc import Container, Iterable

from torch import nn

from open_clip.transformer.norms import FrozenBatchNorm2d

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


def _freeze_batch_norm(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> FrozenBatchNorm2d:
    frozen = FrozenBatchNorm2d(norm.num_features, norm.eps)
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = getattr(norm, name)
        if value is not None:
            setattr(frozen, name, value.detach().clone())
    return frozen


def freeze_batch_norm_2d(module: nn.Module, module_match: Container[str] = (), name: str = "") -> nn.Module:
    """Replace the batch norms of a tower by frozen ones, in place, and return the tower.

    Args:
        module: the tower; when it is a batch norm itself, its replacement is returned.
        module_match: dotted names of the norms to freeze; nothing means all of them.
        name: dotted name of ``module`` itself, put before the names of its parts.
    """
    # `in` alone cannot tell an empty container of any kind from a full one.
    freeze_all = not module_match
    if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm) and (freeze_all or name in module_match):
        return _freeze_batch_norm(module)
    for child_name, child in module.named_children():
        full_name = f"{name}.{child_name}" if name else child_name
        replaced = freeze_batch_norm_2d(child, module_match, full_name)
        if replaced is not child:
            module.add_module(child_name, replaced)
    return module
