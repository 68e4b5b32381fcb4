"""Start of JAX's backend, after the memory allocator has been set up for it."""

from __future__ import annotations

from typing import Any

import jax

from .allocator import keep_freed_memory, set_up_allocator
from .compilation_cache import enable_compilation_cache


def start_backend() -> list[Any]:
    """Return all devices, with the compilation cache enabled."""
    set_up_allocator()
    enable_compilation_cache()
    devices = jax.devices()
    if devices[0].platform == "cpu":
        keep_freed_memory()
    return devices
