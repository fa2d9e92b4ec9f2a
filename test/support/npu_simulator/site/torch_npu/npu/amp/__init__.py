"""``torch.npu.amp``: autocast and the gradient scaler."""

import torch

from torch_npu.npu.amp.grad_scaler import GradScaler as GradScaler


class autocast(torch.amp.autocast_mode.autocast):
    """Autocast on the npu, fp16 unless told otherwise."""

    def __init__(self, enabled=True, dtype=torch.float16, cache_enabled=True):
        super().__init__("npu", enabled=enabled, dtype=dtype, cache_enabled=cache_enabled)
