"""Images on their way to the devices: held there and gathered by index, or read from the host batch by batch, ahead of their use.

Reading ahead is a queue of futures over a thread pool. Grain's loader with as many threads was no faster on the same batches (8,700
against 9,400 images/s of 256 px from a canvas file, ranges overlapping), and what it would add, an order and a position that survive a
restart, the step counter gives already: batch k is a pure function of (seed, stage, k).
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.machine import free_memory
from ..distributed.mesh import AXIS, Devices, split_at
from .decode import cores
from .image_cache import Pixels
from .sampler import Batch, share


@dataclass(frozen=True)
class Images:
    """The images of a split.

    Attributes:
        pixels: where they lie on the host.
        devices: where they are needed.
        gather: `rows`, compiled (resident, index [b]) → their images [b, s, s, c], split over the devices.
        resident: all of them, shared out among the devices, or None where they are streamed.
    """

    pixels: Pixels
    devices: Devices
    gather: Callable[[jax.Array, jax.Array], jax.Array]
    resident: jax.Array | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, jax.Array]]:
        """Each batch with its images on the devices, uint8 [b, s, s, c], split over them; the same bits however they get there."""
        if self.resident is not None:
            for batch in batches:
                yield batch, self.gather(self.resident, self.devices.scatter(batch.index))
        else:
            here, hosts = jax.process_index(), jax.process_count()
            # One batch more than is being computed is on its way to the devices.
            yield from _ahead(
                ((batch, self.devices.scatter_own(part)) for batch, part in _read(self.pixels, batches, lambda b: share(b, here, hosts))), 1
            )


def images(pixels: Pixels, devices: Devices, resident: bool) -> Images:
    """A split's images, shared out among the devices where they are to be resident."""
    return Images(pixels, devices, rows(devices), devices.spread(pixels) if resident else None)


@functools.cache
def rows(devices: Devices) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Compiled (array [n, ...] shared out by `Devices.spread`, index [b]) → its rows [b, ...], split over the devices, to the bit; or the
    rows of several batches at once, [k, b] → [k, b, ...].

    Any device may need any row, for an epoch's order is one of all examples. So each finds what it holds of the whole batch, and the
    finds are added up on the way to where they belong: as integers, of which all but one are zero.
    """
    if devices.count == 1:
        return devices.compile_map(lambda array, index: jnp.take(array, index, axis=0, mode="clip"))

    def found(array: jax.Array, index: jax.Array) -> jax.Array:
        axis = index.ndim - 1
        index = jax.lax.all_gather(index, AXIS, axis=axis, tiled=True).astype(jnp.uint32)
        place = index - jnp.uint32(len(array)) * jax.lax.axis_index(AXIS).astype(jnp.uint32)  # wraps around for rows of devices before
        bits = jax.lax.bitcast_convert_type(array, jnp.dtype(f"uint{8 * array.dtype.itemsize}"))
        mine = jnp.expand_dims(place < len(array), range(index.ndim, axis + array.ndim))
        taken = jnp.where(mine, jnp.take(bits, place, axis=0, mode="clip"), jnp.zeros((), bits.dtype))
        return jax.lax.bitcast_convert_type(jax.lax.psum_scatter(taken, AXIS, scatter_dimension=axis, tiled=True), array.dtype)

    def spread(array: jax.Array, index: jax.Array) -> jax.Array:
        batch = split_at(index.ndim - 1)
        return jax.shard_map(found, mesh=devices.mesh, in_specs=(split_at(0), batch), out_specs=batch)(array, index)

    return jax.jit(spread)


def free(devices: Devices) -> int:
    """Bytes free on the fullest device; on CPU each device's share of the host's memory."""
    local = [device for device in devices.mesh.devices.flat if device.process_index == jax.process_index()]
    stats = [device.memory_stats() for device in local]
    if any(s is None or "bytes_limit" not in s for s in stats):
        return free_memory() // len(local)
    return min(s["bytes_limit"] - s["bytes_in_use"] for s in stats)


def _read(pixels: Pixels, batches: Iterable[Batch], mine: Callable[[Batch], Batch]) -> Iterator[tuple[Batch, np.ndarray]]:
    """Each batch with this host's share of its images, read ahead in threads."""
    pool = ThreadPoolExecutor(cores())
    waiting: deque[tuple[Batch, Future[np.ndarray]]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(pixels.__getitem__, mine(batch).index)))
            if len(waiting) > cores() + 1:
                batch, part = waiting.popleft()
                yield batch, part.result()
        while waiting:
            batch, part = waiting.popleft()
            yield batch, part.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(items: Iterator[Any], count: int) -> Iterator[Any]:
    held: deque[Any] = deque()
    for item in items:
        held.append(item)
        if len(held) > count:
            yield held.popleft()
    yield from held
