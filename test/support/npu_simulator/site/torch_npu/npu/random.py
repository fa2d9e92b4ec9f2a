"""Random state of the devices."""

import npusim_native as _native
import torch

from torch_npu.npu.utils import device_index


def get_rng_state(device="npu") -> torch.Tensor:
    """Return a device's random state as a byte tensor."""
    return _native.default_generator(device_index(device)).get_state()


def set_rng_state(new_state: torch.Tensor, device="npu") -> None:
    """Set a device's random state."""
    _native.default_generator(device_index(device)).set_state(new_state)


def get_rng_state_all() -> list[torch.Tensor]:
    """Return the state of every device."""
    return [get_rng_state(index) for index in range(_native.device_count())]


def set_rng_state_all(new_states) -> None:
    """Set the state of every device."""
    for index, state in enumerate(new_states):
        set_rng_state(state, index)


def manual_seed(seed: int) -> None:
    """Seed the current device."""
    _native.default_generator(_native.current_device()).manual_seed(int(seed))


def manual_seed_all(seed: int) -> None:
    """Seed every device."""
    for index in range(_native.device_count()):
        _native.default_generator(index).manual_seed(int(seed))


def initial_seed() -> int:
    """Return the seed of the current device."""
    return _native.default_generator(_native.current_device()).initial_seed()
