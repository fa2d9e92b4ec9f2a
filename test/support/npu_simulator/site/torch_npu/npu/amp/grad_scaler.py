"""A gradient scaler that behaves as torch_npu 2.14.0's does where that differs from torch's own.

It has a static mode, whose state is the extra key ``dynamic``; it unscales with a float32 reciprocal; and it hands
itself to the ``step`` of an optimizer that says it can scale by itself, which torch's fused ones say and cannot do.
"""

import torch
from torch.amp.grad_scaler import OptState


class GradScaler(torch.amp.GradScaler):
    """Scale losses on the npu."""

    def __init__(
        self,
        init_scale=2.0**16,
        growth_factor=2.0,
        backoff_factor=0.5,
        growth_interval=2000,
        dynamic=True,
        enabled=True,
    ):
        if enabled and growth_factor <= 1.0:
            raise ValueError("The growth factor must be > 1.0.")
        if enabled and backoff_factor >= 1.0:
            raise ValueError("The backoff factor must be < 1.0.")
        super().__init__("npu", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
        self._dynamic = dynamic

    def scale(self, outputs):
        """Multiply by the scale; only npu tensors are accepted."""
        if self._enabled and isinstance(outputs, torch.Tensor) and outputs.device.type != "npu":
            raise ValueError("Device type of outputs should be npu.")
        return super().scale(outputs)

    def unscale_(self, optimizer):
        """Divide the optimizer's gradients by the scale."""
        if not self._enabled:
            return
        self._check_scale_growth_tracker("unscale_")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        inverse = self._scale.float().reciprocal()
        found = torch.zeros((), dtype=torch.float32, device=self._scale.device)
        per_device = self._unscale_grads_(optimizer, inverse, found, False)
        state["found_inf_per_device"] = per_device if self._dynamic else {found.device: torch.zeros_like(found)}
        state["stage"] = OptState.UNSCALED

    def step(self, optimizer, *args, **kwargs):
        """Step unless a gradient overflowed."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        self._check_scale_growth_tracker("step")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            result = optimizer.step(*args, **dict(kwargs, grad_scaler=self))
        else:
            if state["stage"] is OptState.READY:
                self.unscale_(optimizer)
            overflowed = sum(value.item() for value in state["found_inf_per_device"].values())
            result = None if overflowed else optimizer.step(*args, **kwargs)
        state["stage"] = OptState.STEPPED
        return result

    def update(self, new_scale=None):
        """Adjust a dynamic scale; a static one stays."""
        if self._enabled and new_scale is None and not self._dynamic:
            self._per_optimizer_states.clear()
            return
        super().update(new_scale)

    def state_dict(self):
        """Return the state with the extra key ``dynamic``."""
        state = super().state_dict()
        if self._enabled:
            state["dynamic"] = self._dynamic
        return state

    def load_state_dict(self, state_dict):
        """Load a state; without the key ``dynamic`` it is refused, as the real one refuses it."""
        if self._enabled:
            super().load_state_dict(state_dict)
            self._dynamic = state_dict["dynamic"]
