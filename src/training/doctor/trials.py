"""Small trials of one device, each against the CPU: attention, autocast and a scaler's steps. Seconds, no model."""

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_clip.errors import first_line
from open_clip.transformer.kernels import attend
from training.device import Device
from training.doctor.findings import Deviation, Finding, compare, judge

#: Relative errors that rounding explains, by the type that is computed in: outputs and gradients.
BOUNDS = {torch.float32: (2e-3, 5e-3), torch.float16: (1e-2, 2e-2), torch.bfloat16: (2e-2, 5e-2)}
#: B, H, L, K of the text tower of ViT-B-32, for a few texts.
_TEXT_SHAPE = (4, 8, 77, 64)


def type_name(dtype: torch.dtype) -> str:
    """Name a float type as torch does."""
    return str(dtype).removeprefix("torch.")


def half_types(device: Device) -> list[torch.dtype]:
    """List the half types that this device trains in, the one of ``--precision amp`` first."""
    types = [] if device.kind == "cpu" else [torch.float16]
    return [*types, torch.bfloat16] if device.supports_bf16() else types


def guarded(what: str, trial: Callable[[], Finding], device: Device | None = None) -> Finding:
    """Run a trial; whatever it raises is a finding too, which says what to change when this device's memory ran out."""
    # A driver or a kernel fails in its own ways, and none of them is a reason to try nothing else.
    try:
        return trial()
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        if device is not None and device.is_out_of_memory(error):
            why = f"memory ran out: try a smaller --batch-size ({why})"
        return Finding(what, state="failed", why=why)


def quick_trials(device: Device) -> Iterator[Finding]:
    """Try what every run needs, in the type that ``--precision amp`` or else ``amp_bf16`` computes in."""
    dtype = half_types(device)[0]
    for is_causal in (False, True):
        what = f"attention, {'causal' if is_causal else 'no mask'}, {type_name(dtype)}"
        yield guarded(what, partial(_attention, what, device, dtype, is_causal))
    yield guarded("autocast", lambda: autocast_trial(device, dtype))
    yield guarded("loss scale", lambda: scaler_trial(device))


def _attention(what: str, device: Device, dtype: torch.dtype, is_causal: bool) -> Finding:
    out, grads = attention_error(device, dtype, _TEXT_SHAPE, is_causal, attend_as_towers)
    is_worse = grads.relative / BOUNDS[dtype][1] > out.relative / BOUNDS[dtype][0]
    return judge(what, grads if is_worse else out, BOUNDS[dtype][int(is_worse)])


def attend_as_towers(q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> Tensor:
    """Attend from q [B, H, L, K] as the towers do: by the kernel that the device registered, else by torch's."""
    return attend(q, k, v, None, is_causal)


def attend_plainly(q: Tensor, k: Tensor, v: Tensor, is_causal: bool) -> Tensor:
    """Attend from q [B, H, L, K] by two products and a softmax in fp32, as written in the paper."""
    scores = (q @ k.transpose(-2, -1)).float() * q.shape[-1] ** -0.5
    if is_causal:
        forbidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(forbidden, -torch.inf)
    attended: Tensor = scores.softmax(-1).to(v.dtype) @ v
    return attended


def attention_inputs(shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    """Draw q, k, v and a gradient of the output, each of ``shape`` [B, H, L, K], on the host."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for _ in range(4)]


def run_attention(kernel: Callable[..., Tensor], inputs: list[Tensor], is_causal: bool) -> tuple[Tensor, Tensor]:
    """Give the output and the three gradients, stacked, of attention over ``inputs``."""
    leaves = [x.detach().requires_grad_() for x in inputs[:3]]
    out = kernel(*leaves, is_causal)
    return out.detach(), torch.stack(torch.autograd.grad(out, leaves, inputs[3]))


def attention_error(
    device: Device, dtype: torch.dtype, shape: tuple[int, ...], is_causal: bool, kernel: Callable[..., Tensor]
) -> tuple[Deviation, Deviation]:
    """Compare attention of a type on the device with fp32 on the CPU: output and gradients."""
    inputs = attention_inputs(shape, dtype)
    found = run_attention(kernel, [x.to(device.torch_device()) for x in inputs], is_causal)
    expected = run_attention(attend_plainly, [x.float() for x in inputs], is_causal)
    return compare(found[0], expected[0]), compare(found[1], expected[1])


def autocast_trial(device: Device, dtype: torch.dtype) -> Finding:
    """Run a block with a norm, two layers and a loss under autocast, and compare its gradients with fp32 on the CPU."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 32))
    rows, labels = torch.randn(32, 64), torch.randint(0, 32, (32,))

    def gradients(place: torch.device) -> Tensor:
        block.to(place)
        loss = F.cross_entropy(block(rows.to(place)), labels.to(place))
        grads = torch.autograd.grad(loss, list(block.parameters()))
        return torch.cat([grad.flatten().cpu() for grad in grads])

    expected = gradients(torch.device("cpu"))
    target = device.torch_device()
    with torch.autocast(target.type, dtype=dtype):
        seen = block.to(target)(rows.to(target)).dtype
        found = gradients(target)
    what = f"autocast, {type_name(dtype)}"
    if seen != dtype:
        return Finding(what, state="wrong", why=f"its layers gave {type_name(seen)}")
    return judge(what, compare(found, expected), BOUNDS[dtype][1])


def scaler_trial(device: Device) -> Finding:
    """Take a step with an overflow and one without: the first must be left out and halve the scale."""
    weight = nn.Parameter(torch.ones(8, 8, device=device.torch_device()))
    optimizer = torch.optim.AdamW([weight], lr=0.1, **device.optimizer_options([weight]))  # type: ignore[arg-type]
    scaler = device.grad_scaler(None)
    start = float(scaler.get_scale())
    # A scaler may print that it leaves the step out, which is what is looked for here.
    with contextlib.redirect_stdout(io.StringIO()):
        overflow = _scaled_step(scaler, optimizer, weight, float("inf"))
    after = float(scaler.get_scale())
    sound = _scaled_step(scaler, optimizer, weight, 1.0)
    left = float(scaler.get_scale())
    said = f"an overflow {'moved' if overflow else 'moved no'} weight, scale {start:g} to {after:g}; the step after it"
    said += f" {'moved them' if sound else 'moved none'}, scale {left:g}"
    is_good = not overflow and sound and after == start / 2 and left == after
    return Finding("loss scale", {"seen": said}, "ok" if is_good else "wrong", "" if is_good else said)


def _scaled_step(scaler: Any, optimizer: torch.optim.Optimizer, weight: nn.Parameter, factor: float) -> bool:
    """Take a step whose gradient is ``factor``; tell whether the weight moved."""
    before = weight.detach().clone()
    optimizer.zero_grad(set_to_none=True)
    scaler.scale((weight * factor).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    return not torch.equal(before.cpu(), weight.detach().cpu())


def time_steps(device: Device, step: Callable[[], object], seconds: float, most: int = 200) -> list[float]:
    """Time a step after a few to warm up, waiting for the device after each: three times at least, then ``seconds``."""
    warm_until = time.perf_counter() + seconds
    for _ in range(3):
        step()
        device.synchronize()
        if time.perf_counter() > warm_until:
            break
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < seconds and len(taken) < most):
        started = time.perf_counter()
        step()
        device.synchronize()
        taken.append(time.perf_counter() - started)
    return taken


def step_trial(device: Device) -> Finding:
    """Take one optimizer step on the device."""
    layer = nn.Linear(16, 16).to(device.torch_device())
    options = device.optimizer_options(layer.parameters())
    optimizer = torch.optim.AdamW(layer.parameters(), **options)  # type: ignore[arg-type]
    layer(torch.ones(2, 16, device=device.torch_device())).square().mean().backward()
    optimizer.step()
    device.synchronize()
    return Finding("step", {"optimizer": f"AdamW {options or 'plain'}"})
