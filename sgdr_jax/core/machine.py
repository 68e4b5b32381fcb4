"""Facts about the machine: free memory, file systems, processes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil


def free_memory() -> int:
    """Return the bytes of memory that this process can still allocate, limited by the machine and by its control groups (cgroup v2)."""
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError, IndexError):  # psutil does not read control groups; not every system has them.
        for group in Path("/proc/self/cgroup").read_text().splitlines():
            place = Path("/sys/fs/cgroup") / group.split(":", 2)[2].lstrip("/")
            for folder in (place, *place.parents):
                limit = folder / "memory.max"
                if limit.is_file() and (text := limit.read_text().strip()) != "max":
                    free = min(free, int(text) - int((folder / "memory.current").read_text()))
    return max(free, 0)


def file_system(path: Path) -> str:
    """Return the type of the file system that holds a path, such as "nfs4"; "" if unknown."""
    path, mounts = path.absolute().resolve(), psutil.disk_partitions(all=True)
    inside = [(len(Path(mount.mountpoint).parts), i) for i, mount in enumerate(mounts) if path.is_relative_to(mount.mountpoint)]
    return mounts[max(inside)[1]].fstype if inside else ""  # Of several mounts on one point the last is visible.


def process_exists(number: int) -> bool:
    """Return whether a process with this id exists."""
    return psutil.pid_exists(number)
