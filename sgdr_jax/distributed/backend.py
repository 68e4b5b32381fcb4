"""Start of JAX's backend, with the memory allocator and the compilation cache set up for it."""

from __future__ import annotations

import functools
from typing import Any

import jax

from .allocator import keep_freed_memory
from .compilation_cache import enable_compilation_cache


@functools.cache
def compute_in_calling_thread() -> None:
    """Run programs on CPU in the thread that asks for them, which so allocates their buffers.

    Call it before JAX's backend starts, which any question about devices or processes does; later it has no effect. Otherwise a thread of
    JAX allocates the buffers, from a heap of its own, which `keep_freed_memory` does not reach. A single heap for all threads is no way
    out: those that compile and compute wait for each other there, which makes compiling and updates alike slower, by a tenth on two
    cores. Programs over several devices run in JAX's threads all the same.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def start_backend() -> list[Any]:
    """Return all devices, with the compilation cache enabled and, on a CPU, freed memory kept."""
    compute_in_calling_thread()
    enable_compilation_cache()
    devices = jax.devices()
    if devices[0].platform == "cpu":
        keep_freed_memory()
    return devices
