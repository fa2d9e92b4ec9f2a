"""What code that forgets the card would do on a simulated npu: ``python npu_mutants.py NAME``.

Each function prints, as one line of JSON, what came of each try: the error's class and first line, or null.
"""

import contextlib
import io
import json
import pathlib
import sys
import time

import torch


def outcome(call):
    """Return what a call raises in one line, or None."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def first_uses():
    """Use a device that cannot be initialised."""
    tries = {
        "set_device": lambda: torch.npu.set_device(0),
        "set_compile_mode": lambda: torch.npu.set_compile_mode(jit_compile=False),
        "internal format": lambda: setattr(torch.npu.config, "allow_internal_format", False),
        "hf32": lambda: setattr(torch.npu.matmul, "allow_hf32", False),
        "bf16": torch.npu.is_bf16_supported,
        "name": torch.npu.get_device_name,
        "memory": torch.npu.mem_get_info,
        "stream": torch.npu.current_stream,
        "allocation": lambda: torch.ones(1, device="npu"),
        "pinned": lambda: torch.ones(1).pin_memory(),
        "synchronize": torch.npu.synchronize,
    }
    answers = {"is_available": torch.npu.is_available(), "device_count": torch.npu.device_count()}
    return answers | {name: outcome(call) for name, call in tries.items()}


def chip_without_bfloat16():
    """Use the fused optimizer of a chip that has none."""
    weight = torch.nn.Parameter(torch.ones(4, device="npu"))
    weight.grad = torch.ones_like(weight)
    makers = {"AdamW": torch.optim.AdamW, "Adam": torch.optim.Adam}
    tries = {name: maker([weight], lr=0.1, fused=True).step for name, maker in makers.items()}
    return {name: outcome(step) for name, step in tries.items()} | {"plain": outcome(torch.optim.AdamW([weight]).step)}


def _found_inf_is_not_read():
    """Give torch's fused AdamW a reason to leave out its step, as its CUDA kernel would take it."""
    weight = torch.nn.Parameter(torch.ones(4, device="npu"))
    weight.grad = torch.ones_like(weight)
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0, fused=True)
    optimizer.grad_scale, optimizer.found_inf = None, torch.ones((), device="npu")
    optimizer.step()
    return weight.detach().cpu().tolist()


def _heads(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 5, 3, 8, generator=generator).to("npu", dtype).requires_grad_() for _ in range(3)]


def _causal_mask():
    return torch.ones(2048, 2048, dtype=torch.bool, device="npu").triu(1)


def _attend(q, k, v, **options):
    import torch_npu

    chosen = {"scale": 8**-0.5, "sparse_mode": 0, **options}
    return torch_npu.npu_fusion_attention(q, k, v, q.shape[2], "BSND", **chosen)[0]


def _train_with_a_mask_of_inference():
    with torch.inference_mode():
        mask = _causal_mask()
    _attend(*_heads(), atten_mask=mask, sparse_mode=2)


def _change_the_mask_before_backward():
    mask = _causal_mask()
    out = _attend(*_heads(), atten_mask=mask, sparse_mode=2)
    mask.zero_()
    out.sum().backward()


def attention():
    """Call the fused kernel as code would that takes it for scaled_dot_product_attention."""
    q, k, v = _heads()
    mask = _causal_mask()
    found = {
        "mask of inference": outcome(_train_with_a_mask_of_inference),
        "changed mask": outcome(_change_the_mask_before_backward),
        "mixed": outcome(lambda: _attend(q.half(), k, v)),
        "integers": outcome(lambda: _attend(q, k, v.detach().int())),
        "keep nothing": outcome(lambda: _attend(q, k, v, keep_prob=0.0)),
    }
    wanted = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), is_causal=True)
    causal = _attend(q, k, v, atten_mask=mask, sparse_mode=2)
    torch.testing.assert_close(causal, wanted.transpose(1, 2), atol=1e-6, rtol=0)
    upside_down = _attend(q, k, v, atten_mask=~mask, sparse_mode=2)
    found["polarity"] = bool(torch.allclose(upside_down, causal))
    with torch.autocast("npu", dtype=torch.float16):
        found["autocast"] = str(_attend(q, k, v).dtype)
        found["mixed by autocast"] = outcome(lambda: _attend(q @ torch.eye(8, device="npu"), k, v))
    dropped = _attend(q, k, v, keep_prob=0.5)
    assert outcome(dropped.sum().backward) is None
    assert all(bool(x.grad.isfinite().all()) for x in (q, k, v))
    return found


def attention_after_inference():
    """Attend as the towers do, first in inference mode, then with gradients; give how often the kernel was left."""
    import torch_npu

    from training.device.npu_attention import FusedAttention

    attention = FusedAttention(torch_npu.npu_fusion_attention)
    options = {"attn_mask": None, "is_causal": True, "dropout_p": 0.0, "scale": None}
    heads = [x.transpose(1, 2) for x in _heads()]
    with torch.inference_mode():
        answers = [attention(*heads, **options)]
    answers.append(attention(*heads, **options))
    return {
        "refused": sum(answer is None for answer in answers),
        "error": outcome(lambda: answers[-1].sum().backward()),
    }


def _scaled_step(dynamic, gradient):
    """Take a step whose gradient is given; return the weights, what was waited for and what the scaler said."""
    from torch_npu.simulator import op_census

    weight = torch.nn.Parameter(torch.ones(2, device="npu"))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.npu.amp.GradScaler(init_scale=4.0, growth_interval=2, dynamic=dynamic)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        scaler.scale((weight * torch.tensor(gradient, device="npu")).sum()).backward()
        with op_census() as counts:
            scaler.step(optimizer)
            scaler.update()
    waits = sum(count for name, count in counts.items() if name.startswith("sync: "))
    return {"weights": weight.tolist(), "waits": waits, "said": said.getvalue(), "scale": scaler.get_scale()}


def scaler():
    """Step with sound and with broken gradients, with a searched and with a fixed scale."""
    sound, broken = [0.5, 0.25], [float("inf"), 0.25]
    fused = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1, device="npu"))], fused=True)
    plain = torch.npu.amp.GradScaler()
    plain.scale(torch.ones(1, device="npu"))
    return {
        "dynamic": _scaled_step(True, sound),
        "dynamic, broken": _scaled_step(True, broken),
        "static": _scaled_step(False, sound),
        "static, broken": _scaled_step(False, broken),
        "fused": outcome(lambda: plain.step(fused)),
        "found_inf": _found_inf_is_not_read(),
    }


def _group_of_one():
    import torch.distributed as dist

    dist.init_process_group("cpu:gloo,npu:hccl", store=dist.HashStore(), rank=0, world_size=1)
    return dist, torch.ones(2, device="npu"), torch.zeros(2, device="npu")


def reads_without_waiting():
    """Use what a collective is going to write, before its work and after it."""
    dist, value, result = _group_of_one()
    work = dist.all_gather_into_tensor(result, value, async_op=True)
    found = {"before": outcome(result.sum)}
    time.sleep(0.5)
    found["done, not waited for"] = outcome(result.sum)
    work.wait()
    found["after"] = outcome(result.sum)
    dist.all_gather_into_tensor(result, value)
    found["without async_op"] = outcome(result.sum)
    dist.all_gather_into_tensor(result, value, async_op=True)
    torch.npu.synchronize()
    found["synchronised"] = outcome(result.sum)
    return found


def late_results():
    """Read what a slow collective has not yet written; no trap is set, the figures are the card's."""
    dist, value, result = _group_of_one()
    work = dist.all_gather_into_tensor(result, value, async_op=True)
    value.zero_()
    found = {"before": result.tolist()}
    work.wait()
    found["after"] = result.tolist()
    value.fill_(3)
    dist.all_gather_into_tensor(result, value, async_op=True)
    torch.accelerator.synchronize()
    found["synchronised"] = result.tolist()
    return found


def collectives():
    """Ask hccl for what it has not."""
    from torch_npu._C import _distributed_c10d as recorder

    dist, value, result = _group_of_one()
    double, flags = value.double(), value > 0
    operators = {name: getattr(dist.ReduceOp, name) for name in ("BAND", "BOR", "BXOR")}
    found = {name: outcome(lambda op=op: dist.all_reduce(value.int(), op=op)) for name, op in operators.items()}
    found |= {
        "float64": outcome(lambda: dist.all_reduce(double)),
        "float64 moved": outcome(lambda: dist.broadcast(double, src=0)),
        "bool": outcome(lambda: dist.all_reduce(flags)),
        "bool moved": outcome(lambda: dist.broadcast(flags, src=0)),
        "complex": outcome(lambda: dist.broadcast(torch.zeros(2, dtype=torch.complex64, device="npu"), src=0)),
        "strided": outcome(lambda: dist.all_reduce(torch.ones(4, device="npu")[::2])),
        "gather": outcome(lambda: dist.gather(value, [result], dst=0)),
        "sound": outcome(lambda: dist.all_reduce(value)),
    }
    trace = json.loads(recorder._dump_hccl_trace_json())
    active = json.loads(recorder._dump_hccl_trace_json(includeCollectives=True, onlyActive=True))
    last = trace["entries"][-1]
    found["trace"] = [last["profiling_name"], last["state"], last["input_sizes"], len(active["entries"])]
    return found


def autocast():
    """Give the dtype of results under float16 autocast, by operator."""
    half, whole = (torch.ones(4, 4, device="npu", dtype=dtype) for dtype in (torch.float16, torch.float32))
    functional = torch.nn.functional
    with torch.autocast("npu", dtype=torch.float16):
        found = {
            "matmul": whole @ whole,
            "attention": functional.scaled_dot_product_attention(*[whole.view(1, 1, 4, 4)] * 3),
            "layer_norm": functional.layer_norm(half, (4,)),
            "softmax": half.softmax(-1),
            "norm": half.norm(),
            "gelu": functional.gelu(half),
            "vecdot": torch.linalg.vecdot(whole, whole),
            "addcmul": torch.addcmul(half, whole, half),
        }
        refused = outcome(lambda: functional.binary_cross_entropy(whole, whole))
    return {name: str(value.dtype).removeprefix("torch.") for name, value in found.items()} | {"bce": refused}


def float64():
    """Bring double precision to the device."""
    return {
        "moved": outcome(lambda: torch.ones(1, dtype=torch.float64).to("npu")),
        "made": outcome(lambda: torch.ones(1, dtype=torch.float64, device="npu")),
        "computed": outcome(torch.ones(1, device="npu").double),
        "torch's scaler": outcome(_step_with_the_scaler_of_torch),
    }


def _step_with_the_scaler_of_torch():
    weight = torch.nn.Parameter(torch.ones(1, device="npu"))
    scaler = torch.amp.GradScaler("npu")
    scaler.scale(weight.sum()).backward()
    scaler.step(torch.optim.SGD([weight], lr=1.0))


def profiled():
    """Record with both profilers; give the kinds of event of torch's, and what torch_npu's leaves in which folder."""
    from torch_npu import profiler

    x = torch.ones(4, 4, device="npu")
    kinds = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kinds.CPU, kinds.PrivateUse1]) as record:
        x @ x
    found = {"torch": sorted({str(event.device_type).removeprefix("DeviceType.") for event in record.events()})}
    handler = profiler.tensorboard_trace_handler("profiled", worker_name="rank-0")
    chosen = profiler.schedule(wait=1, warmup=1, active=2, repeat=1)
    activities = [profiler.ProfilerActivity.CPU, profiler.ProfilerActivity.NPU]
    with profiler.profile(activities=activities, schedule=chosen, on_trace_ready=handler) as record:
        for _ in range(6):
            x @ x
            record.step()
    [folder] = pathlib.Path("profiled").iterdir()
    found["folder"] = folder.name
    found["files"] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    trace = json.loads((folder / "ASCEND_PROFILER_OUTPUT" / "trace_view.json").read_text())
    found["products"] = sum(event.get("name") == "aten::matmul" for event in trace)
    return found | {"activities": outcome(lambda: profiler.profile(activities=[kinds.CPU]))}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(globals()[sys.argv[1]]()))
