"""The parts of a report that hold the device: error against the CPU, attention, the loss scale, speed."""

from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import Tensor

from open_clip.errors import first_line
from training.device import Device, select_device
from training.doctor.findings import Deviation, Finding, compare, judge, latency_cells, percentile
from training.doctor.parts import Conditions
from training.doctor.subject import (
    Subject,
    Trainee,
    effective_precisions,
    features_and_gradients,
    make_subject,
    make_trainee,
)
from training.doctor.trials import (
    BOUNDS,
    attend_as_towers,
    attend_plainly,
    attention_error,
    attention_inputs,
    autocast_trial,
    guarded,
    half_types,
    run_attention,
    scaler_trial,
    time_steps,
    type_name,
)

#: Relative errors of a whole model that rounding explains: features and loss, then gradients.
MODEL_BOUNDS = {"fp32": (1e-2, 2e-2), "amp": (1e-2, 5e-2), "amp_bf16": (3e-2, 1e-1)}
_ERROR_ROWS = 8
_MIB = 2**20


@cache
def ready_device(name: str) -> Device:
    """Give the device of this name, active in this process.

    Raises:
        DeviceError: It cannot be used here.
    """
    device = select_device(name)
    device.activate()
    return device


def model_error(conditions: Conditions, limit_s: float) -> Iterator[Finding]:
    """Compare features, loss and gradients of the model with fp32 on the CPU, in each precision of the device."""
    device, host = ready_device(conditions.device), select_device("cpu")
    rows = min(_ERROR_ROWS, conditions.batch_size)
    subject = make_subject(conditions, rows, device.text_shapes)
    expected = features_and_gradients(make_trainee(subject, host, "fp32"))
    for precision in effective_precisions(device, ("fp32", "amp", "amp_bf16")):
        # One precision that fails leaves the others.
        try:
            found = features_and_gradients(make_trainee(subject, device, precision))
        except Exception as error:
            yield Finding(precision, state="failed", why=f"{type(error).__name__}: {first_line(error)}")
            continue
        bounds = MODEL_BOUNDS[precision]
        for name, value in expected[0].items():
            yield judge(f"{precision}, {name}", compare(found[0][name], value), bounds[0])
        yield judge_gradients(f"{precision}, gradients", found[1], expected[1], bounds[1])


def judge_gradients(what: str, found: dict[str, Tensor], expected: dict[str, Tensor], bound: float) -> Finding:
    """Compare all gradients as one vector; where they are wrong, name the parameter with most of the difference."""
    if found.keys() != expected.keys():
        apart = sorted(found.keys() ^ expected.keys())
        return Finding(what, state="wrong", why=f"only one side has gradients of {', '.join(apart[:3])}")
    joined = [torch.cat([side[name].float().flatten() for name in expected]) for side in (found, expected)]
    finding = judge(what, compare(*joined), bound)
    if finding.state == "ok":
        return finding
    shares = {name: compare(found[name], expected[name]) for name in expected}
    worst = max(shares, key=lambda name: shares[name].mean_abs * expected[name].numel())
    return Finding(what, finding.cells, "wrong", f"{finding.why}, most of it in {worst}")


def attention_table(conditions: Conditions, limit_s: float) -> Iterator[Finding]:
    """Compare the towers' attention with plain products and a softmax: error against the CPU, and time."""
    device = ready_device(conditions.device)
    # B, H, L, K of ViT-B-32: 49 patches and the class token; a caption's context.
    shapes = {"image, no mask": ((conditions.batch_size, 12, 50, 64), False)}
    shapes["text, causal"] = ((conditions.batch_size, 8, 77, 64), True)
    for dtype in (*half_types(device), torch.float32):
        for name, (shape, is_causal) in shapes.items():
            for way, kernel in (("fused", attend_as_towers), ("plain", attend_plainly)):
                what = f"{name}, {type_name(dtype)}, {way}"
                seconds = conditions.row_seconds / 8
                row = partial(_attention_row, what, device, dtype, shape, is_causal, kernel, seconds)
                yield guarded(what, row, device)


def _attention_row(
    what: str,
    device: Device,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    is_causal: bool,
    kernel: Callable[..., Tensor],
    seconds: float,
) -> Finding:
    # A few rows are enough for the error; the CPU would take long for all.
    few = (min(shape[0], _ERROR_ROWS), *shape[1:])
    out, grads = attention_error(device, dtype, few, is_causal, kernel)
    inputs = [x.to(device.torch_device()) for x in attention_inputs(shape, dtype)]
    taken = time_steps(device, lambda: run_attention(kernel, inputs, is_causal), seconds)
    cells = {
        **{f"output {name}": text for name, text in _short(out).items()},
        **{f"gradient {name}": text for name, text in _short(grads).items()},
        "p50 ms": f"{percentile(taken, 50) * 1e3:.3f}",
        "p95 ms": f"{percentile(taken, 95) * 1e3:.3f}",
    }
    bounds = BOUNDS[dtype]
    is_good = out.within(bounds[0]) and grads.within(bounds[1])
    why = "" if is_good else f"relative error over {bounds[0]:g} (output) or {bounds[1]:g} (gradients)"
    return Finding(what, cells, "ok" if is_good else "wrong", why)


def _short(difference: Deviation) -> dict[str, str]:
    return {"max_abs": f"{difference.max_abs:.2e}", "relative": f"{difference.relative:.2e}"}


def loss_scale(conditions: Conditions, limit_s: float) -> Iterator[Finding]:
    """Try autocast in each half type, and what the loss scale does of an overflow."""
    device = ready_device(conditions.device)
    for dtype in half_types(device):
        yield guarded(f"autocast, {type_name(dtype)}", partial(autocast_trial, device, dtype))
    yield guarded("loss scale", partial(scaler_trial, device))


def training_speed(conditions: Conditions, limit_s: float) -> Iterator[Finding]:
    """Time the trainer's optimizer step on a batch that is on the device, in each precision."""
    device = ready_device(conditions.device)
    subject = make_subject(conditions, conditions.batch_size, device.text_shapes)
    for precision in effective_precisions(device, ("amp", "amp_bf16", "fp32")):
        yield guarded(precision, partial(_time_training, device, subject, precision, conditions), device)


def _time_training(device: Device, subject: Subject, precision: str, conditions: Conditions) -> Finding:
    device.reset_peak_memory()
    trainee = make_trainee(subject, device, precision)
    stepper = trainee.make_stepper(device)
    taken = time_steps(device, lambda: stepper.step([trainee.batch], 1e-5), conditions.row_seconds)
    cells = {
        "batch": str(conditions.batch_size),
        **latency_cells(taken, conditions.batch_size, subject.tokens),
        "peak MiB": f"{device.peak_memory_bytes() / _MIB:,.0f}",
    }
    return Finding(precision, cells)


def encoding_speed(conditions: Conditions, limit_s: float) -> Iterator[Finding]:
    """Time image and text features, one at a time and a batch at a time, without gradients."""
    device = ready_device(conditions.device)
    # The trainer's default.
    precision = "amp"
    for rows in dict.fromkeys((1, conditions.batch_size)):
        subject = make_subject(conditions, rows, device.text_shapes)
        trainee = make_trainee(subject, device, precision)
        trainee.task.model.eval()
        for side in ("image", "text"):
            what = f"{side} features, {precision}"
            yield guarded(what, partial(_time_encoding, device, trainee, what, subject, conditions), device)


def _time_encoding(device: Device, trainee: Trainee, what: str, subject: Subject, conditions: Conditions) -> Finding:
    batch, task = trainee.task.prepare(trainee.batch), trainee.task
    is_text = what.startswith("text")

    def step() -> None:
        with torch.inference_mode(), trainee.mixed.autocast():
            if is_text:
                task.encode_texts(batch.texts)
            else:
                task.encode_images(batch.images)

    taken = time_steps(device, step, conditions.row_seconds / 2)
    rows = len(batch.images)
    return Finding(what, {"batch": str(rows), **latency_cells(taken, rows, subject.tokens if is_text else 0)})
