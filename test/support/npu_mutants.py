"""What code that forgets the card would do on a simulated npu: ``python npu_mutants.py NAME``.

Each function prints, as one line of JSON, what came of each try: the error's class and first line, or null.
"""

import json
import sys

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


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(globals()[sys.argv[1]]()))
