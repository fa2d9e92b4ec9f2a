"""A gradient scaler that does what torch_npu's does, from 2.6 to 2.14: the same calls, waits, words and state.

Where it differs from torch's own: a static mode that looks at no gradient, whose state is the extra key ``dynamic``; a
float32 reciprocal; a wait for each dtype of gradients, for the step and for the update; it says on standard output
what it does; chips that saturate tell each other of overflows in an all-reduce a step; and it hands itself to the
``step`` of an optimizer that says it can scale by itself, which torch's fused ones say and cannot do. torch_npu.optim,
which it knows, is not simulated.

Source: torch_npu/npu/amp/grad_scaler.py of the wheels 2.6.0 and 2.14.0, which differ in one blank.
"""

import warnings
from collections import defaultdict

import torch
import torch.distributed as dist
from torch.amp.grad_scaler import OptState, _MultiDeviceReplicator, _refresh_per_optimizer_state

from torch_npu.npu.utils import is_support_inf_nan


class _Replicator(_MultiDeviceReplicator):
    """Copies of an npu tensor by device."""

    def __init__(self, master_tensor):
        _check_on_npu(master_tensor, "master_tensor")
        self.master = master_tensor
        self._per_device_tensors = {}


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
        # As the real one, it does not call the constructor it inherits.
        self._enabled = enabled and torch.npu.is_available()
        if enabled and not self._enabled:
            warnings.warn("torch_npu.amp.GradScaler is enabled, but NPU is not available. Disabling.", stacklevel=2)
        if not self._enabled:
            return
        if growth_factor <= 1.0:
            raise ValueError("The growth factor must be > 1.0.")
        if backoff_factor >= 1.0:
            raise ValueError("The backoff factor must be < 1.0.")
        self._init_scale, self._scale = init_scale, None
        self._init_growth_tracker, self._growth_tracker = 0, None
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval = growth_interval
        self._dynamic = dynamic
        self._per_optimizer_states = defaultdict(_refresh_per_optimizer_state)
        self._has_overflow = False
        self._clear_overflow_flag = False
        self._dist_initialized = False
        self._dist_overflow_count = None

    def _lazy_init_scale_growth_tracker(self, dev):
        if self._growth_tracker is not None:
            raise RuntimeError("_growth_tracker initialized before _scale")
        self._scale = _pinned_copy(self._init_scale, torch.float32, dev)
        self._growth_tracker = _pinned_copy(self._init_growth_tracker, torch.int32, dev)

    def scale(self, outputs):
        """Multiply by the scale; only npu tensors are accepted."""
        if not self._enabled:
            return outputs
        if self._dist_overflow_count is None:
            self._dist_initialized = self._dist_initialized or dist.is_initialized()
            self._dist_overflow_count = torch.tensor([0.0]).to("npu")
        if self._dynamic and not self._clear_overflow_flag:
            if not is_support_inf_nan():
                # Where the real one clears the flag of the hardware; here nothing saturates and there is none.
                _pinned_copy(0.0, torch.float32, "npu")
            self._clear_overflow_flag = True
        if isinstance(outputs, torch.Tensor):
            _check_on_npu(outputs, "outputs")
        return super().scale(outputs)

    def _unscale_grads_(self, optimizer, inv_scale, found_inf, allow_fp16):
        found, inverse = _Replicator(found_inf), _Replicator(inv_scale)
        with torch.no_grad():
            for device, by_dtype in _gradients(optimizer, allow_fp16).items():
                for gradients in by_dtype.values():
                    if not self._dynamic:
                        for gradient in gradients:
                            gradient.mul_(inverse.get(device))
                        continue
                    torch._amp_foreach_non_finite_check_and_unscale_(gradients, found.get(device), inverse.get(device))
                    if found.get(device).item() > 0:
                        self._has_overflow = True
            self._sync_dist_overflow_count()
            total = found.get(found_inf.device)
            if self._has_overflow:
                total.add_(1)
        return found._per_device_tensors

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
        found = _pinned_copy(0.0, torch.float32, self._scale.device)
        inverse = self._scale.float().reciprocal()
        state["found_inf_per_device"] = self._unscale_grads_(optimizer, inverse, found, False)
        state["stage"] = OptState.UNSCALED

    def _maybe_opt_step(self, optimizer, optimizer_state, *args, **kwargs):
        found = sum(value.item() for value in optimizer_state["found_inf_per_device"].values())
        if found or self._has_overflow:
            print("Gradient overflow. Skipping step")
            return None
        return optimizer.step(*args, **kwargs)

    def step(self, optimizer, *args, **kwargs):
        """Step; with a dynamic scale, not where a gradient overflowed."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._check_scale_growth_tracker("step")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            result = optimizer.step(*args, **dict(kwargs, grad_scaler=self))
        else:
            if state["stage"] is OptState.READY:
                self.unscale_(optimizer)
            if not state["found_inf_per_device"]:
                raise RuntimeError("No inf checks were recorded for this optimizer.")
            if self._dynamic:
                result = self._maybe_opt_step(optimizer, state, *args, **kwargs)
            else:
                result = optimizer.step(*args, **kwargs)
        state["stage"] = OptState.STEPPED
        return result

    def update(self, new_scale=None):
        """Adjust a dynamic scale; a static one stays."""
        if not self._enabled:
            return
        scale, _ = self._check_scale_growth_tracker("update")
        if isinstance(new_scale, float):
            self._scale = _pinned_copy(new_scale, torch.float32, scale.device)
        elif new_scale is not None:
            reason = "new_scale should be a float or a 1-element torch.npu.FloatTensor with requires_grad=False."
            if getattr(new_scale, "dtype", None) != torch.float32 or new_scale.device.type != "npu":
                raise TypeError(reason)
            if new_scale.numel() != 1 or new_scale.requires_grad:
                raise ValueError(reason)
            self._scale = new_scale
        elif self._dynamic:
            self._npu_update_scale()
        self._per_optimizer_states = defaultdict(_refresh_per_optimizer_state)
        self._has_overflow = False
        self._clear_overflow_flag = False

    def _npu_update_scale(self):
        if self._has_overflow:
            self._scale.mul_(self._backoff_factor)
            self._growth_tracker.zero_()
            print(f"Loss scaler reducing loss scale to {self._scale.item()}")
            return
        self._growth_tracker.add_(1)
        if self._growth_tracker.item() == self._growth_interval:
            grown = self._scale * self._growth_factor
            if not torch.isinf(grown):
                self._scale = grown
            self._growth_tracker.zero_()
            print(f"Loss scaler increasing loss scale to {self._scale.item()}")

    def _sync_dist_overflow_count(self):
        if is_support_inf_nan() or not (self._dynamic and self._dist_initialized):
            return
        if self._has_overflow:
            self._dist_overflow_count.add_(1)
        dist.all_reduce(self._dist_overflow_count)
        if not self._has_overflow and self._dist_overflow_count.item() != 0:
            self._has_overflow = True
        self._dist_overflow_count.zero_()

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


def _check_on_npu(tensor, name):
    if tensor.device.type != "npu":
        raise ValueError(f"Device type of {name} should be npu.")


def _pinned_copy(value, dtype, device):
    """Bring a number to the device without waiting."""
    return torch.full((), value, dtype=dtype).pin_memory().to(device, non_blocking=True)


def _gradients(optimizer, allow_fp16):
    """Give the optimizer's gradients by device and dtype; float16 ones are refused."""
    found = defaultdict(lambda: defaultdict(list))
    for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
        gradient = parameter.grad
        if gradient is None:
            continue
        if not allow_fp16 and gradient.dtype == torch.float16:
            raise TypeError("Attempting to unscale FP16 gradients.")
        found[gradient.device][gradient.dtype].append(gradient)
    return found
