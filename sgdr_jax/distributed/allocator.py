"""Memory of processes whose CPU does the training steps: the thread that asks for them takes the large buffers and keeps what it frees."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys

import jax


@functools.cache
def compute_in_calling_thread() -> None:
    """Run programs on CPU in the thread that asks for them, which so allocates their buffers.

    Call it before JAX's backend starts, which any question about devices or processes does; later it has no effect. Otherwise a thread of
    JAX allocates the buffers, from a heap of its own, which `keep_freed_memory` does not reach. A single heap for all threads is no way
    out: those that compile and compute wait for each other there, which makes compiling and updates alike a fifth slower on two cores.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def keep_freed_memory() -> None:
    """Make glibc keep memory that the main thread frees instead of returning it to the system; no effect without glibc.

    A training step on CPU takes gigabytes of temporary buffers, and the system clears every page before handing it out again: that was
    half of the step's time. Other threads have small heaps, from which every buffer over 64 MiB goes back to the system.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in ((-4, 0), (-1, -1)):  # M_MMAP_MAX: no mappings; M_TRIM_THRESHOLD: never
            libc.mallopt(parameter, value)
