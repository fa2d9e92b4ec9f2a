"""Compile the towers of a model for the few shapes that training gives them; chooses no shapes.

Compiled in place: names of weights and classes stay as they are.
"""

from collections.abc import Callable
from typing import Any

import torch

from open_clip.errors import DeviceError
from open_clip.transformer.layout import can_skip_padding
from training.device import Device

# Graphs of one function that may exist at once: four text shapes, with gradient and, where steps of several batches
# cache features, without.
_GRAPHS = 16


def compile_model(model: Any, mode: str = "default", backend: str | Callable[..., object] = "inductor") -> None:
    """Compile a bare model, before it is wrapped for several processes.

    Where texts can go without their padding, the image tower and the text transformer are compiled each for itself:
    one graph a shape, however many runs a batch is cut into. Other models are compiled whole. Evaluation, whose shapes
    vary, is not compiled.

    Args:
        mode: As torch names it: default, reduce-overhead (captured graphs where the device has them), max-autotune.
        backend: What compiles.
    """
    _allow_graphs(_GRAPHS)
    # A device asks for repeatable kernels without importing the compiler, which has to be told as well.
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    parts = [model]
    if can_skip_padding(model):
        parts = [model.visual, model.text_blocks()]
    for part in parts:
        part.compile(dynamic=False, mode=mode if backend == "inductor" else None, backend=backend)
        part._compiled_call_impl = _while_training(part, part._compiled_call_impl)


def refuse_without_compiler(device: Device) -> None:
    """Make sure that the device has a compiler, before minutes have gone into a run that its first step would end.

    Raises:
        DeviceError: It has none; the message says why and what to do.
    """
    fault = device.compiler_fault()
    if fault is not None:
        raise DeviceError(f"--torchcompile: {fault}. Without the flag the run does the same, uncompiled.")


def _while_training(module: torch.nn.Module, compiled: Callable[..., object]) -> Callable[..., object]:
    def call(*args: object, **kwargs: object) -> object:
        return (compiled if module.training else module._call_impl)(*args, **kwargs)

    return call


def _allow_graphs(number: int) -> None:
    """Let torch keep so many graphs of a function before it gives up; the setting's name depends on its version."""
    import torch._dynamo.config as settings

    for name in ("recompile_limit", "cache_size_limit"):
        if hasattr(settings, name):
            setattr(settings, name, max(getattr(settings, name), number))
            return
