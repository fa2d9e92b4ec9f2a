"""Run forward, backward and the update in the precision asked for: autocast, the loss scale and what to clip.

Which precision means what is in ``precision``; apex is in ``apex``; ``make_precision`` chooses between them. The order
is optimizer, ``prepare``, then DDP.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from training.device.precision import Precision

#: What every scaler's state has. Some devices add keys of their own, which a checkpoint must not depend on.
_SCALER_KEYS = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")
_logger = logging.getLogger(__name__)

#: What a loss scaler keeps, in plain types and host tensors, by its own names.
ScalerState = Mapping[str, Any]


class MixedPrecision:
    """Full precision or autocast, without a loss scale; subclasses add one."""

    def __init__(self, precision: Precision, torch_device: torch.device) -> None:
        self.precision = precision
        self._device = torch_device

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Ready a bare model and its optimizer, before DDP wraps the model."""
        return model, optimizer

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context for the forward pass and the loss."""
        if self.precision.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self.precision.autocast_dtype)

    def clear_gradients(self, optimizer: Optimizer) -> None:
        """Forget the gradients of the step before."""
        optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor, is_last: bool = True) -> None:
        """Add the gradients of a loss, scaled if need be.

        Args:
            loss: A scalar on the device.
            is_last: Whether no other backward pass follows in this step.
        """
        loss.backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: Optimizer) -> None:
        """Bring gradients to their true size, before clipping; a second call in a step does nothing."""

    def parameters_to_clip(self, model: nn.Module, optimizer: Optimizer) -> list[nn.Parameter]:
        """List the parameters whose gradients the optimizer is going to use."""
        return list(model.parameters())

    def gradient_fault(self, model: nn.Module, optimizer: Optimizer, norm: Tensor | None = None) -> Tensor:
        """Tell whether a gradient is not finite for another reason than a loss scale that is being searched.

        Args:
            model: The model, wrapped or not.
            optimizer: Its optimizer, whose gradients are there.
            norm: Norm of the gradients, where clipping has computed it.

        Returns:
            A bool scalar on the device; asking waits for nothing.
        """
        if norm is None:
            parameters = self.parameters_to_clip(model, optimizer)
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        return ~torch.isfinite(norm)

    def step(self, optimizer: Optimizer, skip: Tensor | bool = False) -> None:
        """Update the weights, or leave them and the optimizer's state as they are.

        Args:
            optimizer: What updates; scaled gradients that overflowed make it leave out the step in any case.
            skip: Whether to leave it out: a bool, or a bool scalar on the device where the device's
                ``can_skip_update`` says that the optimizer reads one there.
        """
        if isinstance(skip, Tensor):
            optimizer.grad_scale, optimizer.found_inf = None, skip.float()  # type: ignore[attr-defined]
            optimizer.step()
            del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
        elif not skip:
            optimizer.step()

    def keep_bounds(self) -> None:
        """Take over what a task's bounds changed in the weights after an update."""

    def scale(self) -> float | None:
        """Return the present loss scale; None without one. Waits for the device."""
        return None

    def refresh_masters(self) -> None:
        """Take over weights that were loaded into the model after :meth:`prepare`; a saved state comes after."""

    def state_dict(self) -> ScalerState:
        """Return what a checkpoint needs to go on, in plain types and host tensors."""
        return {}

    def load_state_dict(self, state: ScalerState) -> None:
        """Go on from a saved state, of this device or another; load the model and the optimizer first."""


class ScaledPrecision(MixedPrecision):
    """fp16 autocast with a gradient scaler.

    Its state is the scaler's, with the keys that all devices share, so upstream's ``scaler`` entry loads here and ours
    there.
    """

    def __init__(
        self, precision: Precision, torch_device: torch.device, scaler: torch.amp.GradScaler, fixed: bool
    ) -> None:
        super().__init__(precision, torch_device)
        self._scaler = scaler
        self._is_fixed = fixed
        self._is_unscaled = False

    def backward(self, loss: Tensor, is_last: bool = True) -> None:
        """Add the gradients of the scaled loss."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale, once a step."""
        if not self._is_unscaled:
            with _spread_first(optimizer):
                self._scaler.unscale_(optimizer)
            self._is_unscaled = True

    def gradient_fault(self, model: nn.Module, optimizer: Optimizer, norm: Tensor | None = None) -> Tensor:
        """Tell whether a gradient is not finite and the scale is not to blame: it is fixed, or below 1 already."""
        self.unscale(optimizer)
        if self._is_fixed:
            return super().gradient_fault(model, optimizer, norm)
        overflowed = torch.stack([found.reshape(()) for found in self._overflows(optimizer)]).sum() > 0
        one = torch.ones((), device=self._device)
        return overflowed & (self._scaler.scale(one) < 1)

    def step(self, optimizer: Optimizer, skip: Tensor | bool = False) -> None:
        """Update unless told not to or a gradient overflowed, then adjust the scale; only overflows lower it."""
        if isinstance(skip, Tensor):
            self.unscale(optimizer)
            overflows = self._overflows(optimizer)
            own = [found.clone() for found in overflows]
            for found in overflows:
                # The fused kernels compare with 1: two reasons to skip must not add up to 2.
                found.copy_(torch.maximum(found, skip.to(found)))
            self._scaler.step(optimizer)
            for found, before in zip(overflows, own, strict=True):
                found.copy_(before)
        elif skip:
            self.unscale(optimizer)
        else:
            self._scaler.step(optimizer)
        self._scaler.update()
        self._is_unscaled = False

    def _overflows(self, optimizer: Optimizer) -> list[Tensor]:
        """Give the scaler's own flags of the gradients it has unscaled, one for each device they lie on."""
        return list(self._scaler._found_inf_per_device(optimizer).values())

    def scale(self) -> float | None:
        """Return the present loss scale."""
        return float(self._scaler.get_scale())

    def state_dict(self) -> ScalerState:
        """Return the scaler's state, less what only one device knows."""
        state = self._scaler.state_dict()
        return {key: state[key] for key in _SCALER_KEYS}

    def load_state_dict(self, state: ScalerState) -> None:
        """Take the scale and its age from a saved state; how it grows stays as this run asked."""
        if "scale" not in state:
            _logger.info("the checkpoint holds no loss scale; starting from %s", self.scale())
            return
        if self._is_fixed:
            if float(state["scale"]) != self.scale():
                _logger.info("keeping --loss-scale %s; the checkpoint had %s", self.scale(), state["scale"])
            return
        kept = {key: state[key] for key in ("scale", "_growth_tracker") if key in state}
        self._scaler.load_state_dict({**self._scaler.state_dict(), **kept})


@contextmanager
def _spread_first(optimizer: Optimizer) -> Iterator[None]:
    """Let a scaler meet gradients that are spread over processes before whole ones.

    torch takes it from the first gradient whether overflows must be told to the other processes (seen in 2.14).
    """
    groups = optimizer.param_groups
    if any(_is_spread(parameter) for group in groups for parameter in group["params"]):
        parameters = [parameter for group in groups for parameter in group["params"]]
        optimizer.param_groups = [{"params": sorted(parameters, key=lambda parameter: not _is_spread(parameter))}]
    try:
        yield
    finally:
        optimizer.param_groups = groups


def _is_spread(parameter: Tensor) -> bool:
    return hasattr(parameter, "placements")
