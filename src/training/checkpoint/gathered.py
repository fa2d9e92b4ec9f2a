"""The state of a spread model as if it were whole: gathered for one file, and spread again when that is loaded."""

from typing import Any

import torch
from torch.distributed.tensor import DTensor

from open_clip.errors import NumericsError, cut_list
from training.distributed import World
from training.distributed.fsdp import reshard, share_buffers
from training.distributed.spread_tensors import shard_like, whole_tensor
from training.optim import State


def gather_weights(model: torch.nn.Module, world: World) -> dict[str, torch.Tensor]:
    """Gather a spread model's weights, one at a time; every process must call it.

    Returns:
        Name to whole tensor in host memory on the master, nothing in the others.

    Raises:
        NumericsError: When a weight is not finite; in every process.
    """
    reshard(model)
    share_buffers(model)
    state: dict[str, torch.Tensor] = {}
    bad: list[str] = []
    for name, value in model.state_dict().items():
        whole = whole_tensor(value.detach())
        if whole.is_floating_point() and not torch.isfinite(whole).all():
            bad.append(name)
        if world.is_master:
            state[name] = _own_copy(whole, value)
    refuse_nonfinite(bad)
    return state


def refuse_nonfinite(names: list[str]) -> None:
    """Refuse to save weights that are not finite.

    Raises:
        NumericsError: When any are named.
    """
    if names:
        raise NumericsError(
            f"the weights to be saved are not finite: {cut_list(names)}. Go on from an earlier checkpoint with a lower "
            "--lr or --grad-clip-norm."
        )


def gather_optimizer(optimizer: torch.optim.Optimizer, world: World) -> State:
    """Gather the state of a spread model's optimizer; every process must call it.

    Returns:
        What ``optimizer.state_dict()`` of a whole model would be, in host memory, on the master; nothing in the others.
    """
    spread = optimizer.state_dict()
    state: dict[int, State] = {}
    for index, values in spread["state"].items():
        whole = {key: _to_host(value, world) for key, value in values.items()}
        if world.is_master:
            state[index] = whole
    return {"state": state, "param_groups": spread["param_groups"]} if world.is_master else {}


def spread_optimizer_state(optimizer: torch.optim.Optimizer, whole: State) -> State:
    """Take this process's parts of a whole optimizer state, spread as the optimizer's parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in whole["param_groups"] for number in group["params"]]
    state = dict(whole["state"])
    for number, parameter in zip(numbers, parameters, strict=False):
        values = state.get(number, {})
        state[number] = {
            key: shard_like(value, parameter)
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape
            else value
            for key, value in values.items()
        }
    return {**whole, "state": {number: values for number, values in state.items() if values}}


def _to_host(value: object, world: World) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    whole = whole_tensor(value)
    return _own_copy(whole, value) if world.is_master else None


def _own_copy(whole: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Give a tensor in host memory that training does not change; what was gathered is one already."""
    return whole.detach().to("cpu", copy=not isinstance(source, DTensor))
