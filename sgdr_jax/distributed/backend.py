"""Start of JAX's backend, with the memory allocator and the compilation cache set up for it."""

from __future__ import annotations

from typing import Any

import jax

from .allocator import compute_in_calling_thread, keep_freed_memory
from .compilation_cache import enable_compilation_cache


def start_backend() -> list[Any]:
    """Return all devices, with the compilation cache enabled and, on a CPU, freed memory kept."""
    compute_in_calling_thread()
    enable_compilation_cache()
    devices = jax.devices()
    if devices[0].platform == "cpu":
        keep_freed_memory()
    return devices
