"""What ``amp.initialize`` makes of an optimizer: masters made late, a patched step and a patched ``zero_grad``."""

from types import MethodType, SimpleNamespace

import torch


def patch_optimizer(optimizer, has_masters):
    """Give an optimizer apex's methods, once."""
    if hasattr(optimizer, "_amp_stash"):
        raise RuntimeError("A given optimizer should only be passed through amp.initialize once.")
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer._amp_stash = SimpleNamespace(halves=[], masters=[], own=[], kept=[])
    vars(optimizer._amp_stash).update(is_made=False, is_patched=False, is_scaled=False)
    optimizer._has_masters = has_masters
    optimizer._prepare_amp_backward = MethodType(_prepare_backward, optimizer)
    optimizer._post_amp_backward = MethodType(_finish_backward, optimizer)
    if has_masters:
        optimizer.step = MethodType(_masters_step(optimizer.step), optimizer)
        optimizer.zero_grad = MethodType(_zero_grad, optimizer)


def patch_skipping_step(optimizer):
    """Turn the next call of ``step`` into one that does nothing but drop the masters' gradients."""
    stash, step = optimizer._amp_stash, optimizer.step
    if stash.is_patched:
        return

    def skip_step(closure=None):
        for master in stash.masters:
            master.grad = None
        optimizer.step, stash.is_patched = step, False

    optimizer.step, stash.is_patched = skip_step, True


def _make_masters(optimizer):
    stash = optimizer._amp_stash
    if stash.is_made:
        return
    stash.is_made = True
    for group in optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            if not parameter.requires_grad:
                continue
            if parameter.dtype not in (torch.float16, torch.float32):
                raise TypeError(f"Optimizer's parameters must be fp32 or fp16. Received {parameter.type()}")
            if optimizer._has_masters and parameter.dtype == torch.float16:
                master = parameter.detach().clone().float().requires_grad_()
                group["params"][place] = master
                stash.halves.append(parameter)
                stash.masters.append(master)
                if parameter in optimizer.state:
                    optimizer.state[master] = optimizer.state.pop(parameter)
            else:
                stash.own.append(parameter)
                parameter.grad = None if optimizer._has_masters else parameter.grad
    if optimizer._has_masters:
        optimizer.load_state_dict(optimizer.state_dict())


def _masters_step(step):
    def masters_step(self, closure=None):
        if closure is not None:
            raise RuntimeError("Currently, Amp does not support closure use with optimizers.")
        result = step()
        for half, master in zip(self._amp_stash.halves, self._amp_stash.masters, strict=True):
            half.data.copy_(master.data)
            master.grad = None
        return result

    return masters_step


def _zero_grad(self):
    _make_masters(self)
    for parameter in (*self._amp_stash.halves, *self._amp_stash.own):
        if parameter.grad is not None:
            parameter.grad.detach_()
            parameter.grad.zero_()
    for master in self._amp_stash.masters:
        master.grad = None


def _prepare_backward(self):
    _make_masters(self)
    stash = self._amp_stash
    # The memory, not a copy of it: who writes the next gradient there loses this one.
    stash.kept = [parameter.grad for parameter in stash.own]
    for parameter in (*stash.halves, *stash.own):
        parameter.grad = None


def _finish_backward(self, scaler):
    stash, fresh, added = self._amp_stash, [], []
    for half, master in zip(stash.halves, stash.masters, strict=True):
        if half.grad is not None and master.grad is None:
            # What the memory happens to hold; an overflow leaves it there.
            master.grad = torch.full_like(master, torch.nan)
            fresh.append((half.grad, master.grad))
        elif half.grad is not None:
            added.append((half.grad, master.grad, master.grad))
    if self._has_masters and scaler.loss_scale() == 1.0 and not scaler.dynamic:
        # What was kept is lost in this case.
        stash.kept = [None for _ in stash.kept]
        own = []
    else:
        own = stash.own
    for parameter, kept in zip(own, stash.kept, strict=False):
        if parameter.grad is None:
            parameter.grad = kept
        elif kept is None:
            fresh.append((parameter.grad, parameter.grad))
        else:
            added.append((parameter.grad, kept, parameter.grad))
    if fresh:
        scaler.unscale(*zip(*fresh, strict=True))
    if added:
        scaler.unscale_onto(*zip(*added, strict=True))
