"""Image loading: images are resident on the devices and gathered by index, or streamed from the host and read ahead.

Reading ahead is a queue of futures over a thread pool. Grain's loader with as many threads was no faster on the same batches (8,700
against 9,400 images/s of 256 px from a canvas file, ranges overlapping), and its resumable order and position are not needed here:
batch k is a pure function of (seed, stage, k).
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ..core.threads import cores
from ..distributed.mesh import AXIS, Devices, split_at
from .pixels import Pixels
from .sampler import Batch, share


@dataclass(frozen=True)
class ImageLoader:
    """Loads batches of a split's images onto the devices.

    Attributes:
        pixels: the images on the host.
        devices: target devices.
        gather: compiled (resident, index [b]) → images [b, s, s, c], split over the devices; see `row_gather`.
        resident: all images, divided among the devices; None if they are streamed.
    """

    pixels: Pixels
    devices: Devices
    gather: Callable[[jax.Array, jax.Array], jax.Array]
    resident: jax.Array | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, jax.Array]]:
        """Yield each batch with its images, uint8 [b, s, s, c], split over the devices; resident and streamed images have equal bits."""
        if self.resident is not None:
            for batch in batches:
                yield batch, self.gather(self.resident, self.devices.scatter(batch.index))
        else:
            here, hosts = jax.process_index(), jax.process_count()
            # The transfer of the next batch overlaps with the computation on the current one.
            yield from _ahead(
                (batch, self.devices.scatter_own(part)) for batch, part in _read(self.pixels, batches, lambda b: share(b, here, hosts))
            )


def image_loader(pixels: Pixels, devices: Devices, resident: bool) -> ImageLoader:
    """Build the loader of a split's images; `resident` divides them among the devices now."""
    return ImageLoader(pixels, devices, row_gather(devices), devices.spread(pixels) if resident else None)


@functools.cache
def row_gather(devices: Devices) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Compile (array [n, ...] divided by `Devices.spread`, index [b] or [k, b]) → its rows [b, ...] or [k, b, ...], split over the devices.

    Any device may need any row, since an epoch shuffles all examples. Each device looks up the rows of the whole batch that it holds,
    and a reduce-scatter sums them as integers, all but one of which are zero; so rows are exact to the bit.
    """
    if devices.count == 1:

        def rows(array: jax.Array, index: jax.Array) -> jax.Array:
            return jnp.take(array, index, axis=0, mode="clip")

        return devices.compile_map(rows)

    def local_rows(array: jax.Array, index: jax.Array) -> jax.Array:
        axis = index.ndim - 1
        index = jax.lax.all_gather(index, AXIS, axis=axis, tiled=True).astype(jnp.uint32)
        place = index - jnp.uint32(len(array)) * jax.lax.axis_index(AXIS).astype(jnp.uint32)  # wraps around for rows of earlier devices
        bits = jax.lax.bitcast_convert_type(array, jnp.dtype(f"uint{8 * array.dtype.itemsize}"))
        mine = jnp.expand_dims(place < len(array), range(index.ndim, axis + array.ndim))
        taken = jnp.where(mine, jnp.take(bits, place, axis=0, mode="clip"), jnp.zeros((), bits.dtype))
        return jax.lax.bitcast_convert_type(jax.lax.psum_scatter(taken, AXIS, scatter_dimension=axis, tiled=True), array.dtype)

    def rows_of_all(array: jax.Array, index: jax.Array) -> jax.Array:
        batch = split_at(index.ndim - 1)
        return jax.shard_map(local_rows, mesh=devices.mesh, in_specs=(split_at(0), batch), out_specs=batch)(array, index)

    return jax.jit(rows_of_all)


def _read(pixels: Pixels, batches: Iterable[Batch], mine: Callable[[Batch], Batch]) -> Iterator[tuple[Batch, np.ndarray]]:
    """Yield each batch with this host's share of its images, read ahead in threads."""
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


def _ahead[T](items: Iterator[T]) -> Iterator[T]:
    """Yield each item after the next one was requested."""
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting
