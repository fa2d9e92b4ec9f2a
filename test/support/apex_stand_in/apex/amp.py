"""``amp.initialize`` at O1 and O2, ``scale_loss``, ``master_params`` and the state calls, as apex documents them.

O2 really holds an fp16 model and fp32 masters in the optimizer's groups. O1 is autocast on the forward pass. Fused
optimizers, several losses, delayed unscaling and Ascend's combined gradients are left out.
"""

from collections import OrderedDict
from contextlib import contextmanager
from functools import wraps

import torch

_HALF = torch.float16


class LossScaler:
    """One loss scale: fixed, or halved on overflow and doubled after a run of good steps."""

    def __init__(self, loss_scale, window=2000):
        self.dynamic = loss_scale == "dynamic"
        self.loss_scale = 2.0**16 if self.dynamic else float(loss_scale)
        self.window = window
        self.unskipped = 0

    def update(self, overflowed):
        """Adjust the scale after a step; return whether to skip it."""
        if not self.dynamic:
            return False
        self.unskipped = 0 if overflowed else self.unskipped + 1
        if overflowed:
            self.loss_scale /= 2.0
        elif self.unskipped == self.window:
            self.loss_scale, self.unskipped = min(self.loss_scale * 2.0, 2.0**24), 0
        return overflowed


_scalers = []


def initialize(model, optimizer, opt_level="O1", loss_scale=None, verbosity=1):
    """Cast the model, make the masters and patch the optimizer, in place."""
    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        raise RuntimeError("Incoming model is an instance of DistributedDataParallel. Call amp.initialize before it.")
    if opt_level not in ("O1", "O2"):
        raise RuntimeError(f"Unexpected optimization level {opt_level}")
    _scalers[:] = [LossScaler("dynamic" if loss_scale is None else loss_scale)]
    optimizer._pairs = []
    if opt_level == "O2":
        _cast_model(model)
        _make_masters(optimizer)
    else:
        _patch_forward(model, torch.autocast(next(model.parameters()).device.type, dtype=_HALF))
    _patch_step(optimizer)
    return model, optimizer


@contextmanager
def scale_loss(loss, optimizer):
    """Yield the scaled loss; when the context closes, move true gradients to the masters and adjust the scale."""
    scaler = _scalers[0]
    direct = [p for p in master_params(optimizer) if all(p is not master for _, master in optimizer._pairs)]
    stashed = [p.grad for p in direct]
    for parameter in [*direct, *(half for half, _ in optimizer._pairs)]:
        parameter.grad = None
    yield loss.float() * scaler.loss_scale
    with torch.no_grad():
        overflowed = False
        for parameter, old in zip(direct, stashed, strict=True):
            overflowed |= _accumulate(parameter, parameter, old, scaler.loss_scale)
        for half, master in optimizer._pairs:
            overflowed |= _accumulate(half, master, master.grad, scaler.loss_scale)
    optimizer._skip = scaler.update(overflowed)


def master_params(optimizer):
    """Iterate over the parameters that the optimizer updates."""
    for group in optimizer.param_groups:
        yield from group["params"]


def state_dict():
    """Return the state of every loss scaler."""
    states = (
        (f"loss_scaler{i}", {"loss_scale": s.loss_scale, "unskipped": s.unskipped}) for i, s in enumerate(_scalers)
    )
    return OrderedDict(states)


def load_state_dict(state):
    """Restore the loss scalers."""
    for i, scaler in enumerate(_scalers):
        scaler.loss_scale = state[f"loss_scaler{i}"]["loss_scale"]
        scaler.unskipped = state[f"loss_scaler{i}"]["unskipped"]


def _cast_model(model):
    for module in model.modules():
        if not isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(_HALF)
    _patch_forward(model, None)
    model._register_state_dict_hook(_save_in_fp32)


def _save_in_fp32(module, state, prefix, metadata):
    for name, value in state.items():
        if value.dtype == _HALF:
            state[name] = value.float()


def _make_masters(optimizer):
    for group in optimizer.param_groups:
        for i, parameter in enumerate(group["params"]):
            if parameter.dtype == _HALF:
                master = torch.nn.Parameter(parameter.detach().float().clone())
                group["params"][i] = master
                optimizer._pairs.append((parameter, master))


def _patch_forward(model, context):
    original = model.forward

    @wraps(original)
    def forward(*inputs, **options):
        if context is not None:
            with context:
                return original(*inputs, **options)
        return _cast(original(*_cast(inputs, _HALF), **_cast(options, _HALF)), torch.float32)

    model.forward = forward


def _patch_step(optimizer):
    step, zero_grad = optimizer.step, optimizer.zero_grad
    optimizer._skip = False

    def patched_step(*inputs, **options):
        if optimizer._skip:
            optimizer._skip = False
            return None
        result = step(*inputs, **options)
        with torch.no_grad():
            for half, master in optimizer._pairs:
                half.copy_(master)
        return result

    def patched_zero_grad(set_to_none=True):
        zero_grad(set_to_none=set_to_none)
        for half, _ in optimizer._pairs:
            half.grad = None

    optimizer.step, optimizer.zero_grad = patched_step, patched_zero_grad


def _accumulate(source, target, old, scale):
    """Put the source's true gradient plus what was there before on the target; tell whether it overflowed."""
    if source.grad is None:
        target.grad = old
        return False
    gradient = source.grad.float() / scale
    target.grad = gradient if old is None else gradient + old
    return not bool(torch.isfinite(gradient).all())


def _cast(value, dtype):
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    # Apex asks batches of a program's own class to cast themselves.
    if hasattr(value, "to"):
        return value.to(dtype)
    if isinstance(value, tuple | list):
        return type(value)(_cast(item, dtype) for item in value)
    if isinstance(value, dict):
        return {name: _cast(item, dtype) for name, item in value.items()}
    return value
