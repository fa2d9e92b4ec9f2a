"""The public calls of ``apex.amp`` at O1 and O2, with those habits of the original that a trainer must live with.

O2 holds an fp16 model and fp32 masters, which are made at the first backward pass or ``zero_grad``; ``zero_grad`` takes
no ``set_to_none`` and detaches in place; an overflow turns the next call of ``step`` into one that does nothing; a
backward pass takes the model's gradients away. O1 patches functions of torch and keeps fp16 copies of weights. Fused
optimizers, several losses and models, and Ascend's combined gradients are left out.
"""

from collections import OrderedDict
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from apex.amp.casts import Casts, cast
from apex.amp.optimizer import patch_optimizer, patch_skipping_step
from apex.amp.scaler import LossScaler

_amp_state = SimpleNamespace(loss_scalers=[], handle=None)
_LEVELS = {"O1": None, "O2": torch.float16}


def initialize(models, optimizers, opt_level="O1", loss_scale=None, verbosity=1):
    """Ready one model and its optimizer, in place."""
    model, optimizer = models, optimizers
    if opt_level not in _LEVELS:
        raise RuntimeError(f"Unexpected optimization level {opt_level}.")
    if isinstance(model, DistributedDataParallel):
        raise RuntimeError("Incoming model is an instance of DistributedDataParallel: wrap it after amp.initialize.")
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.dtype == torch.float16:
            raise RuntimeError(f"Found param {name} with type {value.type()}, expected fp32.")
    has_masters = _LEVELS[opt_level] is not None
    if has_masters:
        _make_half(model)
    patch_optimizer(optimizer, has_masters)
    _amp_state.loss_scalers = [LossScaler("dynamic" if loss_scale is None else loss_scale)]
    _amp_state.has_masters = has_masters
    _amp_state.handle = None if has_masters else Casts()
    if not has_masters:
        optimizer.step = _without_casts(optimizer.step, _amp_state.handle)
    return model, optimizer


@contextmanager
def scale_loss(loss, optimizers, delay_unscale=False):
    """Yield the scaled loss; when the context closes, bring gradients to their true size and adjust the scale."""
    if not _amp_state.loss_scalers:
        raise RuntimeError("amp.initialize must be called before `with amp.scale_loss`.")
    scaler = _amp_state.loss_scalers[0]
    optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
    if _amp_state.has_masters or scaler.dynamic or scaler.loss_scale() != 1.0:
        if not delay_unscale:
            for optimizer in optimizers:
                if not optimizer._amp_stash.is_scaled:
                    optimizer._prepare_amp_backward()
        yield loss.float() * scaler.loss_scale()
        for optimizer in optimizers:
            optimizer._amp_stash.is_scaled = delay_unscale
        if not delay_unscale:
            scaler.clear_overflow_state()
            for optimizer in optimizers:
                optimizer._post_amp_backward(scaler)
            if scaler.update_scale():
                for optimizer in optimizers:
                    patch_skipping_step(optimizer)
    else:
        yield loss.float()
    if _amp_state.handle is not None:
        _amp_state.handle.clear()


def master_params(optimizer):
    """Iterate over the parameters that the optimizer updates."""
    for group in optimizer.param_groups:
        yield from group["params"]


def state_dict():
    """Return the state of every loss scaler."""
    return OrderedDict((f"loss_scaler{i}", scaler.state_dict()) for i, scaler in enumerate(_amp_state.loss_scalers))


def load_state_dict(state):
    """Restore the loss scalers."""
    for i, scaler in enumerate(_amp_state.loss_scalers):
        scaler.load_state_dict(state[f"loss_scaler{i}"])


def _make_half(model):
    """Cast all but batch norms, take and give fp32 at the model's door, and show fp32 in its state dict."""
    for module in model.modules():
        module._register_state_dict_hook(_show_in_fp32)
        if isinstance(module, _BatchNorm) and module.affine:
            continue
        for value in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if value.is_floating_point():
                value.data = value.data.to(torch.float16)
    forward = model.forward
    model.forward = lambda *inputs, **options: cast(
        forward(*cast(inputs, torch.float16), **cast(options, torch.float16)), torch.float32
    )


def _show_in_fp32(module, state, prefix, metadata):
    for name, value in state.items():
        if value.dtype == torch.float16:
            state[name] = value.to(torch.float32)


def _without_casts(step, casts):
    def quiet_step(*inputs, **options):
        with casts.off():
            return step(*inputs, **options)

    return quiet_step
