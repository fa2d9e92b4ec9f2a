"""The module ``torch.npu``: devices, streams, memory, random state and the switches that trainers set."""

import npusim_native as _native
import torch

from torch_npu.npu import amp as amp
from torch_npu.npu import utils as utils
from torch_npu.npu.config import config as config
from torch_npu.npu.config import conv as conv
from torch_npu.npu.config import is_bf16_supported as is_bf16_supported
from torch_npu.npu.config import is_jit_compile_false as is_jit_compile_false
from torch_npu.npu.config import matmul as matmul
from torch_npu.npu.config import set_compile_mode as set_compile_mode
from torch_npu.npu.memory import empty_cache as empty_cache
from torch_npu.npu.memory import max_memory_allocated as max_memory_allocated
from torch_npu.npu.memory import mem_get_info as mem_get_info
from torch_npu.npu.memory import memory_allocated as memory_allocated
from torch_npu.npu.memory import memory_reserved as memory_reserved
from torch_npu.npu.memory import reset_peak_memory_stats as reset_peak_memory_stats
from torch_npu.npu.random import get_rng_state as get_rng_state
from torch_npu.npu.random import get_rng_state_all as get_rng_state_all
from torch_npu.npu.random import initial_seed as initial_seed
from torch_npu.npu.random import manual_seed as manual_seed
from torch_npu.npu.random import manual_seed_all as manual_seed_all
from torch_npu.npu.random import set_rng_state as set_rng_state
from torch_npu.npu.random import set_rng_state_all as set_rng_state_all
from torch_npu.npu.streams import Event as Event
from torch_npu.npu.streams import Stream as Stream
from torch_npu.npu.streams import current_stream as current_stream
from torch_npu.npu.streams import default_stream as default_stream
from torch_npu.npu.streams import set_stream as set_stream
from torch_npu.npu.streams import stream as stream
from torch_npu.npu.utils import device_index as _device_index


def is_available() -> bool:
    """Tell whether any device is visible."""
    return device_count() > 0


def device_count() -> int:
    """Count the devices: NPUSIM_DEVICES, 1 by default."""
    return _native.device_count()


def is_initialized() -> bool:
    """Tell whether this process has used the device."""
    return _native.is_initialized()


def init() -> None:
    """Initialise; any use does."""
    _lazy_init()


def _lazy_init() -> None:
    _native.check_usable()


def _is_in_bad_fork() -> bool:
    return _native.is_in_bad_fork()


def current_device() -> int:
    """Return the index of the current device."""
    _lazy_init()
    return _native.current_device()


def set_device(device) -> None:
    """Make a device the current one of this thread."""
    index = _device_index(device)
    if index >= 0:
        _native.set_device(index)


def synchronize(device=None) -> None:
    """Return at once: work is done when a call returns."""
    _lazy_init()
    _device_index(device)
    _native.note_sync("synchronize")
    _native.note_host_waited_for_all()


def get_device_name(device_name=None) -> str:
    """Return the chip's name: NPUSIM_NAME, an Ascend910B by default."""
    _device_index(device_name)
    return utils.chip_name()


def get_amp_supported_dtype() -> list:
    """List the dtypes autocast takes here."""
    dtypes = [torch.float16, torch.float32]
    return [*dtypes, torch.bfloat16] if is_bf16_supported() else dtypes


class device:
    """Context in which another device is the current one."""

    def __init__(self, device):
        self.idx = _device_index(device)
        self.prev_idx = -1

    def __enter__(self):
        if self.idx >= 0:
            self.prev_idx = _native.current_device()
            _native.set_device(self.idx)

    def __exit__(self, *_):
        if self.idx >= 0:
            _native.set_device(self.prev_idx)
        return False


class device_of(device):
    """Context in which a tensor's device is the current one."""

    def __init__(self, obj):
        super().__init__(obj.get_device() if obj.device.type == "npu" else -1)
