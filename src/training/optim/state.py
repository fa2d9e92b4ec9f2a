"""Fit a saved optimizer state to an optimizer before it is put back; puts nothing back itself.

A fused step trusts what it is given: it reads and writes as many values as the parameter has, in the parameter's order.
So names, shapes, types, layout and storage of every tensor are compared first.
"""

import copy
import math
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from open_clip.checked_json import is_number
from open_clip.errors import CheckpointError, cut_list, printable

# Adam keeps these of each parameter. Source: torch 2.6 to 2.14, optim/adam.py
_ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")
# Variances: of a negative one the square root is no number.
_NEVER_NEGATIVE = ("exp_avg_sq", "max_exp_avg_sq")
_AT_LEAST_0 = ("lr", "eps", "weight_decay", "momentum")
# Settings of how a step is computed, not of what: they belong to the device, never to a checkpoint.
IMPLEMENTATION_KEYS = ("fused", "foreach", "capturable", "differentiable")
_SHOWN = 5


def fit_optimizer_state(
    optimizer: torch.optim.Optimizer, saved: Any, names: Mapping[int, str] | None = None
) -> dict[str, Any]:
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
    groups = _fit_groups(optimizer, saved)
    states = saved["state"]
    numbers = [number for group in groups for number in group["params"]]
    if unknown := [number for number in states if number not in set(numbers)]:
        raise CheckpointError(f"it holds states of parameters that no group names: {cut_list(unknown)}.")
    fitted: dict[int, dict[str, Any]] = {}
    problems: list[str] = []
    expected = _Expected(optimizer)
    for index, (own, group) in enumerate(zip(optimizer.param_groups, groups, strict=True)):
        for parameter, number in zip(own["params"], group["params"], strict=True):
            if not states.get(number):
                continue
            name = (names or {}).get(id(parameter), f"parameter {number}")
            fresh = expected.state_of(index, {**group, **_implementation(own)}, parameter)
            fitted[number] = _fit_state(states[number], fresh, parameter, name, problems)
    problems = problems or _find_shared(fitted)
    if problems:
        raise CheckpointError(f"{cut_list(problems, _SHOWN)}.")
    return {"state": fitted, "param_groups": groups}


class _Expected:
    """What an optimizer keeps of a parameter after a step, found out once for each shape."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._known: dict[Any, dict[str, Any] | None] = {}

    def state_of(self, index: int, group: dict[str, Any], parameter: Tensor) -> dict[str, Any] | None:
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

    def _take_a_step(self, group: dict[str, Any], parameter: Tensor) -> dict[str, Any] | None:
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


def _fit_groups(optimizer: torch.optim.Optimizer, saved: Any) -> list[dict[str, Any]]:
    """Give the saved groups with what they lack from the run's own; as many parameters, settings of the same kinds."""
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


def _fit_settings(group: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    for key, value in group.items():
        if key != "params" and not _is_setting(key, value, own.get(key)):
            raise CheckpointError(
                f"its optimizer has {printable(key, 60)} = {_show(value)} where this run has {_show(own.get(key))}."
            )
    rest = {key: value for key, value in own.items() if key not in group}
    return {**{key: _as_own(value, own.get(key)) for key, value in group.items()}, **rest, "params": [*group["params"]]}


def _as_own(value: Any, own: Any) -> Any:
    return tuple(value) if isinstance(own, tuple) else value


def _is_setting(key: Any, value: Any, own: Any) -> bool:
    """Tell whether a saved setting is of the kind of the run's own; of one that the run lacks, whether it is plain."""
    if key in IMPLEMENTATION_KEYS:
        return value is None or isinstance(value, bool)
    if isinstance(own, bool):
        return isinstance(value, bool)
    if isinstance(own, int | float):
        return is_number(value) and (value >= 0 or key not in _AT_LEAST_0)
    if isinstance(own, tuple):
        is_like = isinstance(value, list | tuple) and len(value) == len(own)
        is_like = is_like and all(
            one is None if other is None else is_number(one) for one, other in zip(value, own, strict=True)
        )
        return is_like and (key != "betas" or all(0 <= beta < 1 for beta in value))
    if isinstance(own, str):
        return isinstance(value, str)
    if key == "step" and isinstance(value, Tensor):
        # Some count the steps of a group, on its device.
        return _tensor_misfit(key, value, (), value) is None
    if isinstance(value, torch.dtype):
        return own is None or own == value
    if isinstance(value, list | tuple):
        return all(item is None or isinstance(item, str) or is_number(item) for item in value)
    return isinstance(key, str) and (value is None or isinstance(value, bool | str) or is_number(value))


def _fit_state(
    state: dict[Any, Any], fresh: dict[str, Any] | None, parameter: Tensor, name: str, problems: list[str]
) -> dict[str, Any]:
    """Compare what was saved of one parameter; adds to the problems."""
    if fresh is not None:
        for what, keys in (("lacks", fresh.keys() - state.keys()), ("has", state.keys() - fresh.keys())):
            if keys:
                end = "" if what == "lacks" else ", which this optimizer does not keep"
                problems.append(f"{printable(name, 120)} {what} {cut_list(sorted(map(str, keys)))}{end}")
    fitted: dict[str, Any] = {}
    for key, value in state.items():
        wanted = value if fresh is None else fresh.get(key)
        reason = _misfit(key, value, wanted, parameter)
        if reason is not None:
            problems.append(f"{printable(name, 120)}: {printable(key, 60)} {reason}")
        fitted[key] = _own(value, parameter) if reason is None else value
    return fitted


def _misfit(key: Any, value: Any, wanted: Any, parameter: Tensor) -> str | None:
    """Say what is wrong with a value; None when nothing is."""
    if isinstance(wanted, Tensor):
        # Steps were plain numbers before torch 1.12.
        if key == "step" and is_number(value):
            return None if value >= 0 else f"is {value}"
        return _tensor_misfit(key, value, tuple(wanted.shape), parameter)
    if isinstance(wanted, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(wanted):
            return f"is {_show(value)} and should be {len(wanted)} values"
        found = (_misfit(key, one, other, parameter) for one, other in zip(value, wanted, strict=True))
        return next((reason for reason in found if reason is not None), None)
    if isinstance(wanted, int | float):
        is_fit = isinstance(value, bool) if isinstance(wanted, bool) else is_number(value)
        return None if is_fit and (key != "step" or value >= 0) else f"is {_show(value)}"
    return None if value is None or isinstance(value, bool | str) or is_number(value) else f"is {_show(value)}"


def _tensor_misfit(key: Any, value: Any, shape: tuple[int, ...], parameter: Tensor) -> str | None:
    if not isinstance(value, Tensor):
        return f"is {_show(value)} and should be a tensor"
    if tuple(value.shape) != shape:
        return f"is {tuple(value.shape)} in the file and {shape} in the model"
    if not value.is_floating_point() or value.dtype.itemsize < 2:
        return f"is of {value.dtype}, which is no floating type that moments are kept in"
    local = local_part(value)
    if not _is_dense(local, local_part(parameter)):
        return "is not laid out as an optimizer writes it (transposed, or one value seen many times)"
    if not local.numel():
        return None
    least, most = (float(bound) for bound in torch.aminmax(local.detach()))
    if not (math.isfinite(least) and math.isfinite(most)):
        return "is not finite"
    if least < 0 and (key == "step" or key in _NEVER_NEGATIVE):
        return f"has values below 0 ({least:g})"
    return None


def _is_dense(value: Tensor, parameter: Tensor) -> bool:
    if value.layout != torch.strided:
        return False
    is_like_its_parameter = value.shape == parameter.shape and value.stride() == parameter.stride()
    is_channels_last = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
    return value.is_contiguous() or is_like_its_parameter or is_channels_last


def _own(value: Any, parameter: Tensor) -> Any:
    """Lay a tensor out as its parameter, in a storage that holds nothing else; what is so already is not copied."""
    if isinstance(value, list | tuple):
        return type(value)(_own(item, parameter) for item in value)
    if not isinstance(value, Tensor) or local_part(value) is not value or local_part(parameter) is not parameter:
        return value
    value = value.detach()
    is_like = value.shape == parameter.shape
    is_alone = value.untyped_storage().nbytes() == value.numel() * value.itemsize
    if is_alone and (not is_like or value.stride() == parameter.stride()):
        return value
    layout = torch.empty_like(parameter, dtype=value.dtype, device=value.device) if is_like else torch.empty_like(value)
    return layout.detach().copy_(value)


def _find_shared(states: dict[int, dict[str, Any]]) -> list[str]:
    """List states that lie in the memory of another: a step would count one's update into both."""
    spans = []
    for number, state in states.items():
        for key, value in state.items():
            for tensor in _tensors_in(value):
                local = local_part(tensor)
                if local.numel():
                    start = local.data_ptr()
                    spans.append((str(local.device), start, start + local.numel() * local.itemsize, number, str(key)))
    spans.sort()
    return [
        f"{printable(after[4], 60)} of parameter {after[3]} lies in the memory of another state"
        for before, after in zip(spans, spans[1:], strict=False)
        if before[0] == after[0] and after[1] < before[2]
    ]


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors_in(item)


def _implementation(own: dict[str, Any]) -> dict[str, Any]:
    return {key: own[key] for key in IMPLEMENTATION_KEYS if key in own}


def local_part(tensor: Tensor) -> Tensor:
    """Give what this process holds of a tensor that may be spread over processes."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _show(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    return f"a {type(value).__name__}" if isinstance(value, dict | list | set) else printable(repr(value), 60)
