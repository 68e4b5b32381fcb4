"""The memory allocator of processes whose CPU does the training steps."""

from __future__ import annotations

import ctypes
import platform
import sys


def keep_freed_memory() -> None:
    """Make glibc keep memory that the main thread frees instead of returning it to the system; no effect without glibc.

    A training step on CPU takes gigabytes of temporary buffers, and the system clears every page before handing it out again: that was
    half of the step's time. Other threads have small heaps, from which every buffer over 64 MiB goes back to the system. It is not for
    processes with a GPU, which do not need it.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in ((-4, 0), (-1, -1)):  # M_MMAP_MAX: no mappings; M_TRIM_THRESHOLD: never
            libc.mallopt(parameter, value)
