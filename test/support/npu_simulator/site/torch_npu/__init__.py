"""A stand-in for Ascend's torch_npu on host memory: the device ``npu``, ``torch.npu`` and the backend ``hccl``.

Found by ``import torch`` through its entry point, as the real one is. Written for the tests of this project; it has
only what they reach.
"""

import atexit
import os
import time

_ORIGINAL_AUTOLOAD = os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD", "1")
# torch must not load this package again while the package imports torch.
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"

import torch  # noqa: E402

if os.environ.get("NPUSIM_BROKEN"):
    # What an installed wheel does on a machine where CANN is not sourced.
    raise ImportError(os.environ["NPUSIM_BROKEN"])

torch.utils.rename_privateuse1_backend("npu")
try:
    import npusim_native  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"the simulated npu is not compiled for this torch ({error}); "
        "PYTHONPATH must be what test/support/npu_simulator/build.py prints"
    ) from error

from torch_npu import _C as _C  # noqa: E402
from torch_npu import npu  # noqa: E402
from torch_npu import profiler as profiler  # noqa: E402
from torch_npu.attention import npu_fusion_attention as npu_fusion_attention  # noqa: E402
from torch_npu.version import __version__ as __version__  # noqa: E402

torch._register_device_module("npu", npu)
torch.utils.generate_methods_for_privateuse1_backend(
    for_tensor=True, for_module=True, for_packed_sequence=True, for_storage=True
)


def _register_hccl() -> None:
    if torch.distributed.is_available():
        from torch_npu import hccl

        hccl.register()


def _autoload() -> None:
    """Give child processes the switch that the user set."""
    os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = _ORIGINAL_AUTOLOAD


def _let_autograd_finish() -> None:
    # backward() returns before the device's autograd thread has dropped its last task, for which it takes the GIL; a
    # thread that asks for the GIL while the interpreter ends aborts the process.
    if npu.is_initialized():
        time.sleep(0.1)


_register_hccl()
_autoload()
atexit.register(_let_autograd_finish)
