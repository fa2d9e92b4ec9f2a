"""Every question that the project asks of a device, asked one by one, so that each has its own answer or error."""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from open_clip.errors import printable
from training.device import Device, make_mixed_precision, resolve_precision, select_device
from training.device.inventory import judge_installation
from training.doctor.findings import Finding
from training.doctor.parts import INFO, VERSIONS, Conditions
from training.doctor.trials import guarded

# Bytes that no machine has.
_TOO_MANY = 2**50
_MOST_SHOWN = 300


class WrongAnswer(Exception):
    """An answer came and is not what it should be."""


def device_calls(conditions: Conditions, limit_s: float) -> Iterator[Finding]:
    """Ask the device everything; the first question makes it active."""
    device = select_device(conditions.device)
    for name, ask in questions(device).items():
        yield answer_of(name, ask)
    judged = judge_installation(device.software()) if device.kind != "cpu" else None
    if judged is not None:
        yield Finding(VERSIONS, {"answer": judged})


def answer_of(name: str, ask: Callable[[], object]) -> Finding:
    """Ask one question; an answer that is wrong and an error are findings too."""

    def trial() -> Finding:
        try:
            return Finding(name, {"answer": _shown(ask())})
        except WrongAnswer as error:
            return Finding(name, state="wrong", why=str(error))

    return guarded(name, trial)


def questions(device: Device) -> dict[str, Callable[[], object]]:
    """Name the methods of a device in an order in which they can be called, each with a call that proves it."""
    return {
        "missing": lambda: device.missing() or "nothing",
        "count": device.count,
        "process_limit": device.process_limit,
        "activate": device.activate,
        "torch_device": device.torch_device,
        INFO: lambda: device.info().describe(),
        "software": lambda: device.software() or "none of its own",
        "supports_bf16": device.supports_bf16,
        "compiler_fault": lambda: device.compiler_fault() or "nothing",
        "synchronize": lambda: device.synchronize(),
        "move": lambda: _ask_move(device),
        "read_later": lambda: _ask_read_later(device),
        "copy_stream": lambda: _ask_copy_stream(device),
        "rng_state": lambda: _ask_random_state(device),
        "set_rng_state": lambda: _ask_random_state(device),
        "reset_peak_memory": lambda: device.reset_peak_memory(),
        "peak_memory_bytes": lambda: _ask_peak_memory(device),
        "is_out_of_memory": lambda: _ask_out_of_memory(device),
        "optimizer_options": lambda: _ask_optimizer(device),
        "can_skip_update": lambda: _ask_skipped_update(device),
        "grad_scaler": lambda: [type(device.grad_scaler(scale)).__module__ for scale in (None, 512.0)][0],
        "begin_step": lambda: device.begin_step(),
        "set_deterministic": lambda: _ask_deterministic(device),
        "profiler_activities": lambda: _ask_profiler(device),
        "step_profiler": lambda: _ask_step_profiler(device),
        "hang_environment": device.hang_environment,
        "collective_trace": lambda: device.collective_trace() or "none is kept without a process group",
    }


def _shown(answer: object) -> str:
    return "done" if answer is None else printable(answer, _MOST_SHOWN)


def _ask_move(device: Device) -> str:
    """Bring a tensor there, from pinned memory where the device takes it from there."""
    values = torch.arange(1000.0)
    moved = device.move(values.pin_memory() if device.pin_memory else values)
    device.synchronize()
    _expect(moved.device.type == device.kind and torch.equal(moved.cpu(), values), "the copy differs")
    return f"{'pinned ' if device.pin_memory else ''}host memory to {moved.device}"


def _ask_read_later(device: Device) -> str:
    values = torch.full((3,), 2.5, device=device.torch_device())
    read = device.read_later(values)
    values.add_(0)
    _expect(read() == [2.5] * 3, "other values came back")
    return "three values came back"


def _ask_copy_stream(device: Device) -> str:
    """Copy on the side stream and compute with the copy on the main one."""
    stream = device.copy_stream()
    if stream is None:
        return "none: a copy is done when its call returns"
    host = torch.arange(1000.0).pin_memory()
    with stream.copying() as arrived:
        moved = device.move(host)
    stream.hand_over([moved], arrived)
    doubled = (moved * 2).cpu()
    _expect(torch.equal(doubled, host * 2), "work on the copy gave something else")
    return "work on a copy of its own stream is right"


def _ask_random_state(device: Device) -> str:
    """Draw twice from one state."""
    state = device.rng_state()
    target = device.torch_device()
    first = torch.rand(8, device=target)
    device.set_rng_state(state)
    if state is None:
        return "none beside the host's"
    _expect(torch.equal(first.cpu(), torch.rand(8, device=target).cpu()), "one state gave two draws")
    return f"{state.numel()} bytes; one state gives one draw"


def _ask_peak_memory(device: Device) -> str:
    held = torch.ones(1 << 20, device=device.torch_device())
    peak = device.peak_memory_bytes()
    _expect(peak >= held.numel() * held.element_size(), f"{peak} bytes, while {held.numel() * 4} are held")
    return f"{peak:,} bytes"


def _ask_out_of_memory(device: Device) -> str:
    try:
        torch.empty(_TOO_MANY, dtype=torch.uint8, device=device.torch_device())
    except Exception as error:
        _expect(device.is_out_of_memory(error), f"not seen as such: {type(error).__name__}: {error}")
        return f"recognised: {type(error).__name__}"
    raise WrongAnswer(f"{_TOO_MANY} bytes were given")


def _make_optimizer(device: Device) -> tuple[nn.Parameter, torch.optim.Optimizer, dict[str, bool]]:
    weight = nn.Parameter(torch.ones(64, 64, device=device.torch_device()))
    options = device.optimizer_options([weight])
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0, **options)  # type: ignore[arg-type]
    weight.grad = torch.ones_like(weight)
    return weight, optimizer, options


def _ask_optimizer(device: Device) -> str:
    """Take a step of AdamW: the first one moves every weight by the learning rate."""
    weight, optimizer, options = _make_optimizer(device)
    optimizer.step()
    moved = float((1 - weight.detach()).mean())
    _expect(math.isclose(moved, 0.1, rel_tol=1e-3), f"AdamW {options or 'plain'} moved weights by {moved}, not 0.1")
    return f"AdamW {options or 'plain'}: a step is right"


def _ask_skipped_update(device: Device) -> str:
    """Where the device says that its optimizer reads a flag, see that the flag keeps the weights."""
    weight, optimizer, _ = _make_optimizer(device)
    if not device.can_skip_update(optimizer):
        return "no: the host decides"
    mixed = make_mixed_precision(resolve_precision("fp32", device), device, device.torch_device())
    mixed.step(optimizer, torch.ones((), dtype=torch.bool, device=device.torch_device()))
    _expect(bool((weight == 1).all()), "the weights moved all the same")
    return "yes: the flag keeps the weights"


def _ask_deterministic(device: Device) -> str:
    """Ask for repeatable kernels, multiply twice, and stop asking."""
    was_on = torch.are_deterministic_algorithms_enabled()
    try:
        device.set_deterministic(True)
        a = torch.rand(256, 256, device=device.torch_device())
        _expect(torch.equal((a @ a).cpu(), (a @ a).cpu()), "two products of the same matrices differ")
    finally:
        device.set_deterministic(was_on)
    return "two products agree to the bit"


def _ask_profiler(device: Device) -> str:
    """Record a product, and count the kernels of the device in the record."""
    with torch.profiler.profile(activities=device.profiler_activities()) as record:
        a = torch.rand(256, 256, device=device.torch_device())
        (a @ a).sum()
        device.synchronize()
    kinds = [str(event.device_type).rpartition(".")[2] for event in record.events() or []]
    others = len([kind for kind in kinds if kind != "CPU"])
    return f"{len(kinds)} events, {others} of them of the device"


def _ask_step_profiler(device: Device) -> str:
    """Record two steps with the device's own profiler, where it has one, and see that files came of it."""
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        profiler = device.step_profiler(Path(folder), "doctor", 2)
        if profiler is None:
            return "none: torch's is used"
        profiler.start()
        for _ in range(2):
            torch.rand(256, 256, device=device.torch_device()).sum()
            device.synchronize()
            profiler.step()
        profiler.stop()
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        _expect(bool(files), "it wrote no file")
        return f"two steps in {len(files)} files"


def _expect(is_right: bool, otherwise: str) -> None:
    if not is_right:
        raise WrongAnswer(otherwise)
