"""Placement of images during a run, chosen from their size and free memory, with a reason for the log."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

from ..core.machine import free_memory
from ..core.paths import cache_folder
from ..core.validation import require

Storage = Literal["disk", "memory", "nothing"]
"""Storage of decoded images: a cache file, the host's memory, or none (decoded for each batch)."""

DEVICE_SHARE = 0.4
"""Share of a device's free memory that resident images may take; the network needs the rest."""
HOST_SHARE = 0.5
"""Share of the host's free memory that decoded images may take."""
DISK_SHARE = 0.9
"""Share of the disk's free space that a cache file may take."""


def format_bytes(count: float) -> str:
    """Format a number of bytes.

    >>> format_bytes(3 << 29), format_bytes(1020 << 10)
    ('1.5 GiB', '0.996 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 999.5:  # what three digits show without an exponent
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def choose_storage(wanted: str, needed: int, *, disk: int, host: int, cached: bool, begun: int = 0) -> tuple[Storage, str]:
    """Choose the storage of decoded images; return it with the reason.

    Args:
        wanted: `Experiment.images`.
        needed: bytes of all images, decoded.
        disk: bytes free on the disk of the cache.
        host: bytes free in the host's memory.
        cached: whether a cache file exists.
        begun: bytes that an unfinished one takes already.

    Raises:
        InputError: if storage was requested and there is no room.
    """
    if wanted == "decoded":
        return "nothing", "decoded for each batch, as asked"
    if cached:
        return "disk", "decoded by an earlier run"
    if needed - begun <= DISK_SHARE * disk:
        return "disk", f"decoded once to {format_bytes(needed)} on disk"
    if needed <= HOST_SHARE * host:
        return "memory", f"decoded once to {format_bytes(needed)} in memory, the disk of the cache has {format_bytes(disk)} free"
    room = f"{format_bytes(needed)} decoded fit neither on the disk ({format_bytes(disk)} free) nor in memory ({format_bytes(host)} free)"
    require(wanted == "auto", "images", wanted, f"{room}; free some, or use auto or decoded")
    return "nothing", f"decoded for each batch: {room}"


def choose_residence(wanted: str, needed: int, storage: Storage, *, device: int) -> tuple[bool, str]:
    """Choose whether images are resident, divided among the devices; return it with the reason.

    Args:
        wanted: `Experiment.images`.
        needed: bytes of a device's share of all images.
        storage: of the decoded images.
        device: bytes free on each device.
    """
    if wanted == "resident":
        return True, f"resident, as asked ({format_bytes(needed)} on each device)"
    if wanted in ("streamed", "decoded"):
        return False, "streamed, as asked"
    if storage == "nothing":
        return False, "streamed"
    if needed <= DEVICE_SHARE * device:
        return True, f"resident ({format_bytes(needed)} of {format_bytes(device)} free on each device)"
    free = f"{format_bytes(device)} free on each device"
    return False, f"streamed: {format_bytes(needed)} are more than {100 * DEVICE_SHARE:.0f} % of the {free}"


def forecast(wanted: str, count: int, side: int) -> str:
    """Describe where `count` images of `side` pixels would be placed, without opening them or the devices; one line."""
    needed = count * side * side * 3
    text = f"images: {count:,} of at most {side} px in three channels, {format_bytes(needed)}; "
    if wanted != "auto":
        return text + wanted + ", as asked"
    storage, _ = choose_storage(wanted, needed, disk=free_disk(cache_folder()), host=free_memory(), cached=False)
    if storage == "nothing":
        return text + "decoded for each batch, since neither disk nor memory has room"
    return text + f"resident where a device has {format_bytes(needed / DEVICE_SHARE)} free, else streamed from {storage}"


def free_disk(folder: Path) -> int:
    """Return the bytes free where `folder` is or would be created; 0 if it is not writable."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0
    except OSError:
        return 0
