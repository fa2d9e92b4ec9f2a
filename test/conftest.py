"""Leaves out, with the reason, what this machine has no compiler for; keeps the memory of many tests that of one."""

import contextlib
import ctypes
import gc
import os
import shutil

import pytest


def pytest_collection_modifyitems(items):
    """Skip the simulated npu where it cannot be compiled; everything else needs no compiler."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is not None:
        return
    for item in items:
        if item.get_closest_marker("npu"):
            item.add_marker(pytest.mark.skip(reason=f"no {compiler} here to compile the simulated npu: install it"))


_KEPT_PAGES = 2**29 // os.sysconf("SC_PAGE_SIZE")
_before = 0


def pytest_runtest_logfinish():
    """Give back what runs inside this process leave.

    A run ends as cycles of objects, which Python looks for rarely among so many, and the C library keeps what threads
    have freed: together 100 MB a run, of which nothing is in use.
    """
    global _before
    if not os.path.exists("/proc/self/statm"):
        return
    if _pages() - _before > _KEPT_PAGES:
        gc.collect()
        with contextlib.suppress(AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)
        _before = _pages()


def _pages():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1])
