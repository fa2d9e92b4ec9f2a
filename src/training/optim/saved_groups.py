"""Compare the parameter groups of a saved optimizer state with the run's: parameters, and kinds of settings."""

import torch
from torch import Tensor

from open_clip.checked_json import is_number
from open_clip.errors import CheckpointError, cut_list, printable
from training.optim.groups import Group
from training.optim.saved_tensors import show, tensor_misfit

_AT_LEAST_0 = ("lr", "eps", "weight_decay", "momentum")
# Settings of how a step is computed, not of what: they belong to the device, never to a checkpoint.
_IMPLEMENTATION_KEYS = ("fused", "foreach", "capturable", "differentiable")


def implementation(own: Group) -> Group:
    """Give those settings of a group that belong to the device."""
    return {key: own[key] for key in _IMPLEMENTATION_KEYS if key in own}


def fit_groups(optimizer: torch.optim.Optimizer, saved: object) -> list[Group]:
    """Give the saved groups with what they lack from the run's own; as many parameters, settings of the same kinds.

    Raises:
        CheckpointError: They are no groups, or do not fit.
    """
    if not isinstance(saved, dict) or not isinstance(saved.get("state"), dict):
        raise CheckpointError("its entry 'optimizer' is no state of an optimizer (a dict with a dict 'state').")
    groups, own_groups = saved.get("param_groups"), optimizer.param_groups
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise CheckpointError("its entry optimizer.param_groups is no list of groups.")
    lists = [group.get("params") for group in groups]
    if not all(isinstance(numbers, list | tuple) for numbers in lists):
        raise CheckpointError("a group of its optimizer lists no parameters.")
    if not all(isinstance(state, dict) for state in saved["state"].values()):
        raise CheckpointError("its entry optimizer.state holds other things than states of parameters.")
    flat = [number for numbers in lists for number in numbers or ()]
    if not all(type(number) is int for number in flat) or len(set(flat)) != len(flat):
        raise CheckpointError("the groups of its optimizer list parameters twice, or by other things than numbers.")
    counts, own_counts = [len(numbers or ()) for numbers in lists], [len(own["params"]) for own in own_groups]
    if counts != own_counts:
        raise CheckpointError(
            f"its optimizer has groups of {cut_list(counts)} parameters and the run's has groups of "
            f"{cut_list(own_counts)}."
        )
    return [_fit_settings(group, own) for group, own in zip(groups, own_groups, strict=True)]


def _fit_settings(group: Group, own: Group) -> Group:
    for key, value in group.items():
        if key != "params" and not _is_setting(key, value, own.get(key)):
            raise CheckpointError(
                f"its optimizer has {printable(key, 60)} = {show(value)} where this run has {show(own.get(key))}."
            )
    rest = {key: value for key, value in own.items() if key not in group}
    return {**{key: _as_own(value, own.get(key)) for key, value in group.items()}, **rest, "params": [*group["params"]]}


def _as_own(value: object, own: object) -> object:
    return tuple(value) if isinstance(own, tuple) and isinstance(value, list) else value


def _is_setting(key: object, value: object, own: object) -> bool:
    """Tell whether a saved setting is of the kind of the run's own; of one that the run lacks, whether it is plain."""
    if key in _IMPLEMENTATION_KEYS:
        return value is None or isinstance(value, bool)
    if isinstance(own, bool):
        return isinstance(value, bool)
    if isinstance(own, int | float):
        return is_number(value) and (value >= 0 or key not in _AT_LEAST_0)
    if isinstance(own, tuple):
        if not isinstance(value, list | tuple) or len(value) != len(own):
            return False
        is_like = all(one is None if other is None else is_number(one) for one, other in zip(value, own, strict=True))
        return is_like and (key != "betas" or all(0 <= beta < 1 for beta in value))
    if isinstance(own, str):
        return isinstance(value, str)
    if key == "step" and isinstance(value, Tensor):
        # Some count the steps of a group, on its device.
        return tensor_misfit(key, value, (), value) is None
    if isinstance(value, torch.dtype):
        return own is None or own == value
    if isinstance(value, list | tuple):
        return all(item is None or isinstance(item, str) or is_number(item) for item in value)
    return isinstance(key, str) and (value is None or isinstance(value, bool | str) or is_number(value))
