"""Train only some rows of a table, such as the special tokens of an embedding; every other row keeps its bits.

A frozen row must be spared three times. Its gradient is zeroed as it arrives, before processes exchange it, so that
clipping and moments never see it. Weight decay moves a row without any gradient, and moments of an earlier stage go on
moving it, so its value is put back after each step as well. An optimizer of a compact copy of the trained rows would
need neither, but its state would fit no checkpoint of the whole table.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from open_clip.errors import ConfigError, suggest_nearest
from training.distributed import local_part

# Stands on the module that holds a table: FSDP makes new parameters and leaves modules as they are.
_MARK = "_trained_rows"


def train_only_rows(model: nn.Module, name: str, rows: Sequence[int]) -> None:
    """Let training change only these rows of a parameter; call it on the bare model, after towers are locked.

    The mark is no part of the weights or of a checkpoint: a run that goes on with one must set it again.

    Args:
        model: Holds the parameter, which becomes trainable where it was frozen.
        name: The parameter's name, such as ``token_embedding.weight`` [V, D]; rows are its first dimension.
        rows: Numbers of the rows, from 0.

    Raises:
        ConfigError: There is no such parameter or no such row, or no row is given.
    """
    known = dict(model.named_parameters(remove_duplicate=False))
    if name not in known:
        raise ConfigError(f"{name}: the model has no parameter of this name.{suggest_nearest(name, list(known))}")
    parameter = known[name]
    count = len(parameter) if parameter.ndim else 0
    wrong = [row for row in rows if not 0 <= row < count]
    if wrong or not rows:
        what = f"row {wrong[0]} is not one of them" if wrong else "none is to be trained"
        raise ConfigError(f"{name} has rows 0 to {count - 1} and {what}: name rows that are there.")
    path, _, own = name.rpartition(".")
    module = model.get_submodule(path)
    setattr(module, _MARK, {**getattr(module, _MARK, {}), own: torch.tensor(sorted(set(rows)))})
    parameter.requires_grad_(True)


def hold_other_rows(optimizer: torch.optim.Optimizer, *models: nn.Module) -> None:
    """Keep the rows that :func:`train_only_rows` did not name as they are, whatever the optimizer does.

    Args:
        optimizer: Made over the models' parameters; what else stands in their places later, such as fp32 masters, is
            held in their stead.
        models: On their device and spread over the processes already, not yet wrapped.
    """
    marked = _marked_parameters(models)
    held: list[_Held] = []
    for at, group in enumerate(optimizer.param_groups):
        for number, parameter in enumerate(group["params"]):
            others = _other_rows(parameter, marked[parameter]) if parameter in marked else torch.zeros(0)
            # This process may hold no frozen row, or no row at all.
            if others.numel() and others.any():
                held.append(_Held(at, number, others))
                parameter.register_post_accumulate_grad_hook(held[-1].clear_gradient)
    if held:
        optimizer.register_step_pre_hook(lambda stepping, *_: _for_each(held, _Held.remember, stepping))
        optimizer.register_step_post_hook(lambda stepping, *_: _for_each(held, _Held.put_back, stepping))


class _Held:
    """The frozen rows of one parameter, found by its place in the optimizer.

    Args:
        group: The parameter's group.
        number: Its place there.
        others: Which of this process's rows are frozen, bool [R, 1, ...].
    """

    def __init__(self, group: int, number: int, others: Tensor) -> None:
        self._group = group
        self._number = number
        self._others = others
        self._before: Tensor | None = None

    def find(self, optimizer: torch.optim.Optimizer) -> Tensor:
        """Give what the optimizer updates."""
        parameter: Tensor = optimizer.param_groups[self._group]["params"][self._number]
        return parameter

    def clear_gradient(self, parameter: Tensor) -> None:
        """Zero the frozen rows of a gradient that has just arrived, whatever is in them."""
        if parameter.grad is not None:
            local_part(parameter.grad).masked_fill_(self._others, 0.0)

    def remember(self, optimizer: torch.optim.Optimizer) -> None:
        """Copy the values before an update."""
        self._before = local_part(self.find(optimizer).detach()).clone()

    def put_back(self, optimizer: torch.optim.Optimizer) -> None:
        """Undo what an update did to frozen rows."""
        value = local_part(self.find(optimizer).detach())
        assert self._before is not None
        value.copy_(torch.where(self._others, self._before, value))
        self._before = None


def _for_each(
    held: list[_Held], act: Callable[[_Held, torch.optim.Optimizer], None], optimizer: torch.optim.Optimizer
) -> None:
    with torch.no_grad():
        for one in held:
            act(one, optimizer)


def _marked_parameters(models: Sequence[nn.Module]) -> dict[Tensor, Tensor]:
    """List the marked parameters with the numbers of their trained rows."""
    modules = [module for model in models for module in model.modules()]
    return {getattr(module, name): rows for module in modules for name, rows in getattr(module, _MARK, {}).items()}


def _other_rows(parameter: Tensor, rows: Tensor) -> Tensor:
    """Mark the frozen rows of this process's part of a parameter, bool [R, 1, ...]."""
    others = torch.ones(len(parameter), *[1] * (parameter.ndim - 1), dtype=torch.bool, device=parameter.device)
    others[rows.to(others.device)] = False
    if not hasattr(parameter, "placements"):
        return others
    from training.distributed.spread_tensors import shard_like

    return local_part(shard_like(others, parameter))
