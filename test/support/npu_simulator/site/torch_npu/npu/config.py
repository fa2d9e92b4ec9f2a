"""Switches that the real module keeps in its runtime; here they are remembered so that tests can ask."""

import os

import npusim_native as _native


class _Config:
    """Switches of memory layout."""

    allow_internal_format = True

    def __setattr__(self, name, value):
        _native.check_usable()
        self.__dict__[name] = value


class _Hf32:
    """Whether fp32 products may drop mantissa bits."""

    def __init__(self, allowed):
        self.__dict__["allow_hf32"] = allowed

    def __setattr__(self, name, value):
        if name != "allow_hf32":
            raise AttributeError(f"the simulated npu has no switch {name}")
        if not isinstance(value, bool):
            raise TypeError(f"allow_hf32 must be a bool, but got {type(value).__name__}")
        _native.check_usable()
        self.__dict__[name] = value


config = _Config()
matmul = _Hf32(False)
conv = _Hf32(True)
_compile_mode = {"jit_compile": True}


def set_compile_mode(jit_compile=False) -> None:
    """Choose prebuilt kernels (False) or compiling every new shape (True); setting any option initialises."""
    _native.check_usable()
    _compile_mode["jit_compile"] = bool(jit_compile)


def is_jit_compile_false() -> bool:
    """Tell whether prebuilt kernels are used."""
    _native.check_usable()
    return not _compile_mode["jit_compile"]


def is_bf16_supported(including_emulation: bool = False) -> bool:
    """Tell whether the chip has bfloat16; NPUSIM_BF16=0 says it has not."""
    _native.check_usable()
    return os.environ.get("NPUSIM_BF16", "1") != "0"
