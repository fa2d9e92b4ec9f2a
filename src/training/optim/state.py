"""Fit a saved optimizer state to an optimizer before it is put back; puts nothing back itself.

Groups and their settings are ``saved_groups``'s, shapes, types, layout and storage of tensors ``saved_tensors``'s.
"""

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from open_clip.checked_json import is_number
from open_clip.errors import CheckpointError, cut_list, printable
from training.optim.groups import Group, State
from training.optim.saved_groups import fit_groups, implementation
from training.optim.saved_tensors import find_shared, own_tensors, show, tensor_misfit

# Adam keeps these of each parameter. Source: torch 2.6 to 2.14, optim/adam.py
_ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")
_SHOWN = 5


def fit_optimizer_state(
    optimizer: torch.optim.Optimizer, saved: State, names: Mapping[int, str] | None = None
) -> State:
    """Compare a saved state with what the optimizer keeps of each of its parameters.

    Args:
        optimizer: The run's; its parameters may be spread over processes.
        saved: What was saved, of whole or of spread tensors.
        names: Name of each parameter, by its ``id``, for messages.

    Returns:
        The state as ``load_state_dict`` takes it: every tensor laid out as its parameter, with a storage of its own.

    Raises:
        CheckpointError: Names everything that does not fit, shapes with both sides.
    """
    groups = fit_groups(optimizer, saved)
    states = saved["state"]
    numbers = [number for group in groups for number in group["params"]]
    if unknown := [number for number in states if number not in set(numbers)]:
        raise CheckpointError(f"it holds states of parameters that no group names: {cut_list(unknown)}.")
    fitted: dict[int, State] = {}
    problems: list[str] = []
    expected = _Expected(optimizer)
    for index, (own, group) in enumerate(zip(optimizer.param_groups, groups, strict=True)):
        for parameter, number in zip(own["params"], group["params"], strict=True):
            if not states.get(number):
                continue
            name = (names or {}).get(id(parameter), f"parameter {number}")
            fresh = expected.state_of(index, {**group, **implementation(own)}, parameter)
            fitted[number] = _fit_state(states[number], fresh, parameter, name, problems)
    problems = problems or find_shared(fitted)
    if problems:
        raise CheckpointError(f"{cut_list(problems, _SHOWN)}.")
    return {"state": fitted, "param_groups": groups}


class _Expected:
    """What an optimizer keeps of a parameter after a step, found out once for each shape."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._known: dict[tuple[object, ...], State | None] = {}

    def state_of(self, index: int, group: Group, parameter: Tensor) -> State | None:
        """Give values of the right names, kinds and shapes; None where they cannot be found out."""
        if type(self._optimizer) in (torch.optim.Adam, torch.optim.AdamW):
            moments = dict.fromkeys(_ADAM_MOMENTS, parameter)
            if group.get("amsgrad"):
                moments["max_exp_avg_sq"] = parameter
            return {"step": torch.zeros(()), **moments}
        key = (index, tuple(parameter.shape), parameter.dtype)
        if key not in self._known:
            self._known[key] = self._take_a_step(group, parameter)
        return self._known[key]

    def _take_a_step(self, group: Group, parameter: Tensor) -> State | None:
        stand_in = torch.nn.Parameter(torch.ones(parameter.shape, dtype=parameter.dtype, device=parameter.device))
        stand_in.grad = torch.ones_like(stand_in)
        probe = type(self._optimizer).__new__(type(self._optimizer))
        probe.__dict__.update(self._optimizer.__dict__)
        # Hooks are for the parameters of the run, by their places in its groups.
        probe._optimizer_step_pre_hooks, probe._optimizer_step_post_hooks = OrderedDict(), OrderedDict()
        # A copy, since some count steps in the group.
        probe.state, probe.param_groups = defaultdict(dict), [{**copy.deepcopy(group), "params": [stand_in]}]
        try:
            probe.step()
        except Exception:
            # Some need more than a gradient, such as a second derivative.
            return None
        return dict(probe.state.get(stand_in, {}))


def _fit_state(state: State, fresh: State | None, parameter: Tensor, name: str, problems: list[str]) -> State:
    """Compare what was saved of one parameter; adds to the problems."""
    if fresh is not None:
        for what, keys in (("lacks", fresh.keys() - state.keys()), ("has", state.keys() - fresh.keys())):
            if keys:
                end = "" if what == "lacks" else ", which this optimizer does not keep"
                problems.append(f"{printable(name, 120)} {what} {cut_list(sorted(map(str, keys)))}{end}")
    fitted: State = {}
    for key, value in state.items():
        wanted = value if fresh is None else fresh.get(key)
        reason = _misfit(key, value, wanted, parameter)
        if reason is not None:
            problems.append(f"{printable(name, 120)}: {printable(key, 60)} {reason}")
        fitted[key] = own_tensors(value, parameter) if reason is None else value
    return fitted


def _misfit(key: object, value: object, wanted: object, parameter: Tensor) -> str | None:
    """Say what is wrong with a value; None when nothing is."""
    if isinstance(wanted, Tensor):
        # Steps were plain numbers before torch 1.12.
        if key == "step" and is_number(value):
            return None if value >= 0 else f"is {value}"
        return tensor_misfit(key, value, tuple(wanted.shape), parameter)
    if isinstance(wanted, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(wanted):
            return f"is {show(value)} and should be {len(wanted)} values"
        found = (_misfit(key, one, other, parameter) for one, other in zip(value, wanted, strict=True))
        return next((reason for reason in found if reason is not None), None)
    if isinstance(wanted, int | float):
        if isinstance(wanted, bool):
            return None if isinstance(value, bool) else f"is {show(value)}"
        return None if is_number(value) and (key != "step" or value >= 0) else f"is {show(value)}"
    return None if value is None or isinstance(value, bool | str) or is_number(value) else f"is {show(value)}"
