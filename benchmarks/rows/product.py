"""One large matrix product: what the device reaches today, for shares of it. Not a comparison."""

import torch

from benchmarks.meter import synchronize

SIZE, TINY_SIZE = 8192, 256
_WARM_UP, _PRODUCTS = 5, 20


def measure_product_flops(device: str, dtype: torch.dtype, size: int = SIZE) -> float:
    """Return operations a second of square products of random numbers; the best of three blocks."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    for _ in range(_WARM_UP):
        left @ right
    seconds = [_block_s(left, right, device) for _ in range(3)]
    return 2.0 * size**3 * _PRODUCTS / min(seconds)


def _block_s(left: torch.Tensor, right: torch.Tensor, device: str) -> float:
    import time

    synchronize(device)
    started = time.perf_counter()
    for _ in range(_PRODUCTS):
        left @ right
    synchronize(device)
    return time.perf_counter() - started
