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


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(globals()[sys.argv[1]]()))
