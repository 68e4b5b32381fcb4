"""The memory allocator of processes whose CPU does the training steps. It is set up before a process has threads, and so without jax."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from importlib.metadata import entry_points


@functools.cache
def set_up_allocator() -> None:
    """Keep freed memory if the CPU is the only device. Whatever starts threads, as JAX does, has to call this before."""
    if not entry_points(group="jax_plugins"):
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next step instead of returning it to the system; no effect without glibc.

    A training step on CPU takes gigabytes of temporary buffers, and the system clears every page before handing it out again: that was half
    of the step's time. It has no effect on threads that exist already: they have small heaps of their own, from which every large buffer
    goes back to the system, and which threads that start later share. It is not for processes with a GPU: they do not need it, and their
    many compiling threads should not contend for a single heap.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in ((-8, 1), (-4, 0), (-1, -1)):  # M_ARENA_MAX: one heap; M_MMAP_MAX: no mappings; M_TRIM_THRESHOLD: never
            libc.mallopt(parameter, value)
