"""Where images lie during a run: decided from sizes and free memory, with the reason in words."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

from ..core.machine import free_memory
from ..core.paths import cache_folder
from ..core.validation import require

Kept = Literal["disk", "memory", "nothing"]
"""Where decoded images are kept: in a canvas file, in the host's memory, or nowhere."""

DEVICE_SHARE = 0.4
"""Share of a device's free memory that resident images may take; the network needs the rest."""
HOST_SHARE = 0.5
"""Share of the host's free memory that decoded images may take."""
DISK_SHARE = 0.9
"""Share of the disk's free space that a canvas may take."""


def size(count: float) -> str:
    """A number of bytes in words.

    >>> size(3 << 29)
    '1.5 GiB'
    """
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


def storage(wanted: str, needed: int, *, disk: int, host: int, found: bool) -> tuple[Kept, str]:
    """Where the decoded images of files are kept, and why.

    Args:
        wanted: `Experiment.images`.
        needed: bytes of all images, decoded.
        disk, host: bytes free.
        found: whether a canvas file of them is there already.

    Raises:
        InputError: where they were asked to be kept, and there is no room.
    """
    if wanted == "decoded":
        return "nothing", "decoded for each batch, as asked"
    if found:
        return "disk", "decoded by an earlier run"
    if needed <= DISK_SHARE * disk:
        return "disk", f"decoded once to {size(needed)} on disk"
    if needed <= HOST_SHARE * host:
        return "memory", f"decoded once to {size(needed)} in memory, the disk of the cache has {size(disk)} free"
    room = f"{size(needed)} decoded fit neither on the disk ({size(disk)} free) nor in memory ({size(host)} free)"
    require(wanted == "auto", "images", wanted, f"{room}; free some, or use auto or decoded")
    return "nothing", f"decoded for each batch: {room}"


def residence(wanted: str, needed: int, kept: Kept, *, device: int) -> tuple[bool, str]:
    """Whether all images are held on the devices, each a share of them, and why.

    Args:
        wanted: `Experiment.images`.
        needed: bytes of a device's share of all images.
        kept: where they are kept.
        device: bytes free on each device.
    """
    if wanted == "resident":
        return True, f"resident, as asked ({size(needed)} on each device)"
    if wanted in ("streamed", "decoded"):
        return False, "streamed, as asked"
    if kept == "nothing":
        return False, "streamed"
    if needed <= DEVICE_SHARE * device:
        return True, f"resident ({size(needed)} of {size(device)} free on each device)"
    return False, f"streamed: {size(needed)} are more than {100 * DEVICE_SHARE:.0f} % of the {size(device)} free on each device"


def forecast(wanted: str, count: int, side: int) -> str:
    """Where so many images would lie, as far as can be told without opening them or the devices; one line."""
    needed = count * side * side * 3
    text = f"images: {count:,} of at most {side} px in three channels, {size(needed)}; "
    if wanted != "auto":
        return text + wanted + ", as asked"
    kept, _ = storage(wanted, needed, disk=free_disk(cache_folder()), host=free_memory(), found=False)
    if kept == "nothing":
        return text + "decoded for each batch, for want of disk and memory"
    return text + f"resident where a device has {size(needed / DEVICE_SHARE)} free, else streamed from {kept}"


def free_disk(folder: Path) -> int:
    """Bytes free where `folder` is or would be made; 0 where nothing can be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0
    except OSError:
        return 0
