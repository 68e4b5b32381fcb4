"""Depthwise convolutions as Pallas kernels for NVIDIA GPUs, and their gradients.

A program computes a tile of one image, `rows` × `columns` pixels by `channels`, and keeps its sums in registers. Every loaded tile of the
input serves all rows that it meets, so a K × K kernel costs about K loads of a pixel instead of K²; borders are masks, not padded copies.
The kernel's gradient is summed in two stages, over the work of a program and then over programs, so that it is the same on every run.
Nothing is tried out while compiling, as cuDNN's algorithms are, of which XLA sometimes takes one that is ten times slower. Pallas' Triton
back end is deprecated since jax 0.11: without it, convolutions are lax's.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton


class Tile(NamedTuple):
    """Work of a program: rows, columns and channels of its tile (the latter two powers of 2), and its warps of 32 threads."""

    rows: int
    columns: int
    channels: int
    warps: int


class Geometry(NamedTuple):
    """How output positions meet input positions; the transpose of a convolution with stride s walks its output in steps of s."""

    kernel: tuple[int, int]
    before: tuple[int, int]  # padding above and to the left
    stride: int
    transposed: bool = False

    @property
    def step_in(self) -> int:
        return 1 if self.transposed else self.stride

    @property
    def step_out(self) -> int:
        return self.stride if self.transposed else 1

    def meetings(self, axis: int, outputs: int) -> dict[int, list[tuple[int, int]]]:
        """Map input offset to the (output offset, tap) that it adds to, for outputs 0 … outputs - 1 along an axis."""
        by_offset = defaultdict(list)
        for o in range(outputs):
            for tap in range(self.kernel[axis]):
                if self.transposed:
                    at, rest = divmod(o + self.before[axis] - tap, self.stride)
                else:
                    at, rest = o * self.stride - self.before[axis] + tap, 0
                if not rest:
                    by_offset[at].append((o, tap))
        return dict(sorted(by_offset.items()))


class _Reader:
    """Reads tiles [columns, channels] of x [b, h, w, c] in float32, zeros outside; the time to compile is quadratic in its operations."""

    def __init__(self, ref: Any, shape: tuple[int, ...], column: Array, channel: Array, step: int):
        self.ref, self.shape, self.step = ref, shape, step
        self.column, self.real = column * step, channel < shape[3]
        self.place = self.column * shape[3] + channel

    def columns(self, shift: Any) -> tuple[Array, Array]:
        """Return offsets and mask for columns that are shifted to the right."""
        column = self.column + shift
        return self.place + shift * self.shape[3], self.real & (column >= 0) & (column < self.shape[2])

    def load(self, columns: tuple[Array, Array], image: Array, row: Array, known: bool = False) -> Array:
        """Load one row of an image; `known`: it lies inside."""
        place, mask = columns
        start = (image * self.shape[1] + row) * (self.shape[2] * self.shape[3])
        inside = mask if known else mask & ((row >= 0) & (row < self.shape[1]))
        return triton.load(self.ref.at[place + start], mask=inside, other=0.0).astype(jnp.float32)


def _gather_kernel(x: Any, kernel: Any, y: Any, *, geometry: Geometry, tile: Tile, inputs: tuple[int, ...]) -> None:
    _, height, width, channels = y.shape
    taps_down, taps_across = geometry.kernel
    channel = (pl.program_id(0) * tile.channels + jnp.arange(tile.channels, dtype=jnp.int32))[None, :]
    u = (pl.program_id(1) * tile.columns + jnp.arange(tile.columns, dtype=jnp.int32))[:, None]
    blocks = pl.cdiv(height, tile.rows * geometry.step_out)
    image, top = pl.program_id(2) // blocks, pl.program_id(2) % blocks * tile.rows
    reader = _Reader(x, inputs, u, channel, geometry.step_in)
    outputs = [(o, q) for o in range(tile.rows * geometry.step_out) for q in range(geometry.step_out)]
    last = (blocks - 1) * tile.rows * geometry.step_in

    def add(shift: Any, met: list[tuple[int, Any]], sums: dict[tuple[int, int], Array]) -> dict[tuple[int, int], Array]:
        columns = reader.columns(shift)
        weights = {
            (i, n): triton.load(kernel.at[channel + (i * taps_across + j) * channels], mask=channel < channels, other=0.0)
            for n, (_, j) in enumerate(met)
            for i in range(taps_down)
        }
        for t, rows in geometry.meetings(0, tile.rows * geometry.step_out).items():
            loaded = reader.load(columns, image, top * geometry.step_in + t, known=t >= 0 and last + t < inputs[1])
            for n, (q, _) in enumerate(met):
                for o, i in rows:
                    sums[o, q] = sums[o, q] + loaded * weights[i, n]
        return sums

    sums = dict.fromkeys(outputs, jnp.zeros((tile.columns, tile.channels), jnp.float32))
    if geometry.step_out == 1:

        def tap(j: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
            shift = geometry.before[1] - j if geometry.transposed else j - geometry.before[1]
            return tuple(add(shift, [(0, j)], dict(zip(outputs, sums, strict=True))).values())

        sums = dict(zip(outputs, lax.fori_loop(np.int32(0), np.int32(taps_across), tap, tuple(sums.values())), strict=True))
    else:
        for shift, met in geometry.meetings(1, geometry.step_out).items():
            sums = add(shift, met, sums)
    for (o, q), total in sums.items():
        row, column = top * geometry.step_out + o, u * geometry.step_out + q
        triton.store(
            y.at[image, row, column, channel], total.astype(y.dtype), mask=(channel < channels) & (column < width) & (row < height)
        )


@partial(jax.jit, static_argnames=("geometry", "size", "tile", "interpret"))  # so that convolutions of one shape are compiled once
def gather(x: Array, kernel: Array, geometry: Geometry, size: tuple[int, int], tile: Tile, interpret: bool = False) -> Array:
    """Convolve x [b, h, w, c], or apply the transpose of a convolution to it, to [b, *size, c]; see `Geometry`."""
    tall, wide = (pl.cdiv(n, geometry.step_out) for n in size)
    return pl.pallas_call(
        partial(_gather_kernel, geometry=geometry, tile=tile, inputs=x.shape),
        out_shape=jax.ShapeDtypeStruct((x.shape[0], *size, x.shape[3]), x.dtype),
        grid=(pl.cdiv(x.shape[3], tile.channels), pl.cdiv(wide, tile.columns), x.shape[0] * pl.cdiv(tall, tile.rows)),
        compiler_params=triton.CompilerParams(num_warps=tile.warps, num_stages=1),
        interpret=interpret,
        name="depthwise_transposed" if geometry.transposed else "depthwise",
    )(x.reshape(-1), kernel.astype(jnp.float32).reshape(-1))


def _kernel_gradient(x: Any, g: Any, partials: Any, *, geometry: Geometry, tile: Tile, each: int, shapes: Any) -> None:
    """Sum x · g of every tap over `each` tiles of images, rows and columns."""
    inputs, outputs = shapes
    images, height, width, channels = outputs
    channel = (pl.program_id(0) * tile.channels + jnp.arange(tile.channels, dtype=jnp.int32))[None, :]
    across, down = pl.cdiv(width, tile.columns), pl.cdiv(height, tile.rows)
    rows, start = geometry.meetings(0, tile.rows), pl.program_id(1) * each
    last = (down - 1) * tile.rows * geometry.stride

    def add(index: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        index = start + index
        image, top, u = index // (across * down), index // across % down * tile.rows, index % across * tile.columns
        u = (u + jnp.arange(tile.columns, dtype=jnp.int32))[:, None]
        gradients = _Reader(g, outputs, u, channel, 1)
        place, mask = gradients.columns(0)
        real = place, mask & (image < images)  # the last program runs past the last image
        slopes = [gradients.load(real, image, top + o, known=height % tile.rows == 0) for o in range(tile.rows)]
        reader, image = _Reader(x, inputs, u, channel, geometry.stride), jnp.minimum(image, images - 1)
        totals = list(sums)
        for j in range(geometry.kernel[1]):
            shifted = reader.columns(j - geometry.before[1])
            for t, met in rows.items():
                loaded = reader.load(shifted, image, top * geometry.stride + t, known=t >= 0 and last + t < inputs[1])
                for o, i in met:
                    totals[i * geometry.kernel[1] + j] += loaded * slopes[o]
        return tuple(totals)

    zero = jnp.zeros((tile.columns, tile.channels), jnp.float32)
    sums = lax.fori_loop(np.int32(0), np.int32(each), add, (zero,) * (geometry.kernel[0] * geometry.kernel[1]))
    channel = channel[0]
    for tap, total in enumerate(sums):
        triton.store(partials.at[pl.program_id(1), tap, channel], jnp.sum(total, 0), mask=channel < channels)


@partial(jax.jit, static_argnames=("geometry", "tile", "programs", "interpret"))
def kernel_gradient(x: Array, g: Array, geometry: Geometry, tile: Tile, programs: int, interpret: bool = False) -> Array:
    """Compute the gradient [kh, kw, c] of a convolution's kernel from its input and its output's gradient, by about as many programs."""
    channels, (down, across) = x.shape[3], geometry.kernel
    blocks = pl.cdiv(channels, tile.channels)
    tiles = g.shape[0] * pl.cdiv(g.shape[1], tile.rows) * pl.cdiv(g.shape[2], tile.columns)
    each = pl.cdiv(tiles, max(programs // blocks, 1))
    chunks = pl.cdiv(tiles, each)

    partials = pl.pallas_call(
        partial(_kernel_gradient, geometry=geometry, tile=tile, each=each, shapes=(x.shape, g.shape)),
        out_shape=jax.ShapeDtypeStruct((chunks, down * across, channels), jnp.float32),
        grid=(blocks, chunks),
        compiler_params=triton.CompilerParams(num_warps=tile.warps, num_stages=1),
        interpret=interpret,
        name="depthwise_kernel_gradient",
    )(x.reshape(-1), g.reshape(-1))
    return partials.sum(0).reshape(down, across, channels)
