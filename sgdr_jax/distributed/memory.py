"""Memory of the devices: what a run has used at most, and what to do where it does not suffice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax

from ..core.errors import InputError
from ..core.machine import free_memory
from .mesh import Devices

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_ASKED = re.compile(r"(?:allocat\w+ (?:request for )?|Used )([\d.]+) ?([KMG]?)(?:i?B|bytes)?\b")


class DeviceMemory(NamedTuple):
    """Memory of the fullest local device, in bytes.

    Attributes:
        peak: most in use at once since the process began.
        used: in use now.
        limit: what the process may use.
    """

    peak: int
    used: int
    limit: int


def device_memory(devices: Devices) -> DeviceMemory | None:
    """Return the memory of the fullest local device; None where devices do not report it, as on a CPU."""
    return max(_known(devices), default=None)


def free_device_memory(devices: Devices) -> int:
    """Return the bytes free on the fullest local device; on CPU each device's share of the host's free memory."""
    # The fullest now need not be the one that was the fullest so far.
    free = [memory.limit - memory.used for memory in _known(devices)]
    return min(free) if free else free_memory() // len(devices.mesh.local_devices)


def _known(devices: Devices) -> list[DeviceMemory]:
    """Return the memory of the local devices that report it."""
    stats = [device.memory_stats() for device in devices.mesh.local_devices]
    return [DeviceMemory(s["peak_bytes_in_use"], s["bytes_in_use"], s["bytes_limit"]) for s in stats if s]


def exhausted(error: BaseException) -> bool:
    """Return whether an error of jax means that the devices' memory does not suffice; reading a failed array raises it as a ValueError."""
    return isinstance(error, (jax.errors.JaxRuntimeError, ValueError)) and "RESOURCE_EXHAUSTED" in str(error)


def requested(message: str) -> int | None:
    """Return the bytes that a program needed according to the message of an allocation that failed; None if it does not say.

    >>> requested("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1.50GiB.")
    1610612736
    """
    match = _ASKED.search(message)
    return int(float(match[1]) * _UNITS[match[2]]) if match else None


def largest_batch(size: int, needed: int | None, free: int | None, multiple: int = 1) -> int | None:
    """Halve a batch until the memory that a program needs for it is free; at least once. None if no batch fits.

    Args:
        size: the batch that did not fit.
        needed: bytes that it needed, taken to be proportional to the batch; None if unknown, then half is the answer.
        free: bytes that were free; None if unknown, likewise.
        multiple: the batch has to be divisible by this number.

    >>> largest_batch(256, needed=40 << 30, free=12 << 30)
    64
    """
    fits, times = None, 2
    while fits is None and size // times >= multiple:
        if needed is None or free is None or needed / times <= free:
            fits = size // times // multiple * multiple
        times *= 2
    return fits


@contextmanager
def one_line_if_exhausted(name: str, size: int, devices: Devices, where: str, fix: str = "") -> Iterator[None]:
    """Raise InputError, one line with the batch size that would fit, where the block runs out of device memory.

    Args:
        name: the field that holds the batch size.
        size: the batch size.
        devices: the devices of the run.
        where: what is done in the block.
        fix: another way out.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if not exhausted(error):
            raise
        known, needed = device_memory(devices), requested(str(error))
        free = known.limit - known.used if known else None
        batch = largest_batch(size, needed, free, devices.count)
        room = f"{needed / (1 << 30):.1f} GiB more are needed" if needed else "the batch does not fit"
        room += f", {free / (1 << 30):.1f} GiB are free" if free is not None else ""
        use = f"use {batch} or less" if batch else "use a smaller network or smaller images"
        raise InputError(f"{name} is {size}: out of device memory in {where} ({room}); {use}{fix}") from error
