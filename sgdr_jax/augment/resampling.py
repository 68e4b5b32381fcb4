"""Resampling of images under maps of coordinates: the plain resize, symmetries that move pixels, and bilinear resampling by gathers.

On CPU, gathers that XLA fuses with their interpolation are much faster than matrix products: at 224 px on two cores a random crop runs
at 4,700 images/s and a rotation at 3,400, a crop as two matrix products at 620. TPUs are slow at gathers; see `gather_free`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float, UInt8

from .affine import Border
from .plain import WHOLE, PlainView, filter_matrix

MIRRORED = Border()


# ---- symmetries ----


def symmetry(images: Float[Array, "b s s c"], matrices: Float[Array, "b 3 3"]) -> Float[Array, "b s s c"]:
    """Apply to each image a symmetry of the square, given as its map of coordinates (see `Dihedral`); moves pixels only."""
    # Column k of the matrix has one nonzero entry, the sign of output axis k.
    signs = matrices[:, :2, :2].sum(1)
    moves: list[tuple[Array, Callable[[Array], Array]]] = [
        (matrices[:, 0, 1] != 0, lambda x: x.swapaxes(1, 2)),
        (signs[:, 0] < 0, lambda x: x[:, :, ::-1]),
        (signs[:, 1] < 0, lambda x: x[:, ::-1]),
    ]
    images = jax.lax.optimization_barrier(images)
    for applies, move in moves:
        images = jnp.where(applies[:, None, None, None], move(images), images)
    return images


# ---- the plain view ----


def resize(images: UInt8[Array, "b S S c"], size: int, plain: PlainView = WHOLE) -> Float[Array, "b {size} {size} c"]:
    """Resize to `size`; values in 0…1, float32.

    Whole images equal `jax.image.resize(images / 255, …, method="linear" or "cubic", antialias=True)`, clipped; a canvas of `size` pixels
    is not filtered.
    """
    canvas = images.shape[1]
    if canvas == size and plain.crop == 1:
        return jnp.asarray(images, float) / 255
    taps, weights = _filter(canvas, size, plain)
    # Each pass uses only the few nonzero taps per pixel, on CPU several times faster than matrix products. The barrier keeps the first
    # pass from being recomputed for each tap of the second.
    rows = sum(w[:, None, None] * jnp.asarray(images[:, t], float) for t, w in zip(taps, weights, strict=True))
    rows = jax.lax.optimization_barrier(rows)
    both = sum(w[:, None] * rows[:, :, t] for t, w in zip(taps, weights, strict=True))
    # Without the constraint XLA may lay the result out column by column and then copy it, which takes three times as long.
    return with_layout_constraint(jnp.clip(both * (1 / 255), 0, 1), Layout((0, 1, 2, 3)))


def _filter(canvas: int, size: int, plain: PlainView = WHOLE) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and weights [taps, size] of the filter; the taps of a pixel are neighbours."""
    dense = filter_matrix(canvas, size, plain)
    reach = np.abs(dense) > 1e-9
    first, last = reach.argmax(1), canvas - 1 - reach[:, ::-1].argmax(1)
    count = int((last - first).max()) + 1
    taps = np.minimum(first, canvas - count) + np.arange(count)[:, None]
    return taps.astype(np.int32), dense[np.arange(size), taps].astype(np.float32)


# ---- bilinear resampling ----


def resample(
    images: UInt8[Array, "b S S c"],
    matrices: Float[Array, "b 3 3"],
    size: int,
    scales: tuple[float, float] = (1.0, 1.0),
    border: Border = MIRRORED,
    field: Float[Array, "b {size} {size} 2"] | None = None,
) -> Float[Array, "b {size} {size} c"]:
    """Resample images bilinearly through maps from output to input coordinates (-1…1 from edge to edge).

    Where output pixels are larger than canvas pixels, an example is read from the level of a pyramid (each level the 2×2 means of the one
    before, rounded to 8 bits) whose pixels are nearest to them in size, so that shrinking does not alias.

    Args:
        images: the canvases.
        matrices: the maps.
        size: side of the result in pixels.
        scales: least and largest enlargement of an output pixel by the matrices, apart from the resize; decide which levels are made.
        border: what lies beyond the images.
        field: displacements (x, y), added to the output coordinates before they are mapped.

    Returns:
        Images in 0…1, float32.
    """
    canvas = images.shape[1]
    first, last = (min(max(round(math.log2(canvas / size * scale)), 0), int(math.log2(canvas))) for scale in scales)
    pyramid, tops, sides = _pyramid(images, first, last)
    determinants = jnp.abs(jnp.linalg.det(matrices) / matrices[:, 2, 2] ** 3)
    level = jnp.round(0.5 * jnp.log2(jnp.maximum(determinants, 1e-12)) + math.log2(canvas / size))
    level = jnp.clip(jnp.nan_to_num(level), first, last).astype(jnp.int32) - first
    top, side = jnp.asarray(tops)[level], jnp.asarray(sides)[level]
    half = jnp.asarray([canvas / 2 / 2**k for k in range(first, last + 1)], float)[level]
    # With the coordinates materialised the gathers fuse with the interpolation; without the barrier they are recomputed for every tap.
    x, y = jax.lax.optimization_barrier(jax.vmap(lambda m, h, f: _positions(m, h, size, border, f))(matrices, half, field))

    def one(image: Array, x: Array, y: Array, top: Array, side: Array) -> Array:
        left, above = jnp.floor(x), jnp.floor(y)
        fx, fy = (x - left)[..., None], (y - above)[..., None]

        def tap(row: Array, column: Array) -> Array:
            # A tap beyond the edge pixel is its mirror image, the edge pixel. Clipping also keeps NaN from reading out of bounds.
            r, k = jnp.clip(row, 0, side - 1), jnp.clip(column, 0, side - 1)
            value = image.at[r + top, k].get(mode="promise_in_bounds").astype(float)
            if border.mode == "constant":
                value = jnp.where(((r == row) & (k == column))[..., None], value, 255 * border.value)
            return value

        columns, rows = ([v.astype(jnp.int32) + k for k in (0, 1)] for v in (left, above))
        (a, b), (c, d) = ([tap(r, k) for k in columns] for r in rows)
        upper, lower = a + fx * (b - a), c + fx * (d - c)
        return jnp.clip((upper + fy * (lower - upper)) * (1 / 255), 0, 1)

    return jax.vmap(one)(pyramid, x, y, top, side)


def _positions(matrix: Array, half: Array, size: int, border: Border, field: Array | None) -> tuple[Array, Array]:
    """Return the columns and rows [size, size] that the output pixels sample, in pixels of a level that is 2·`half` of them wide."""
    centres = (2 * jnp.arange(size, dtype=float) + 1) / size - 1
    across, down = centres[None, :], centres[:, None]
    if field is not None:
        across, down = across + field[..., 0], down + field[..., 1]

    def row(k: int) -> Array:
        return matrix[k, 0] * across + matrix[k, 1] * down + matrix[k, 2]

    def position(v: Array) -> Array:
        if border.mode == "edge":
            v = jnp.clip(v, -1, 1)
        elif border.mode == "constant":
            v = jnp.clip(v, -4, 4)  # far outside, where all taps lie beyond the image
        else:
            # A triangle wave folds coordinates of any size back into the image: -1…1 up, 1…3 down.
            quarter = (v + 1) / 4
            v = 1 - jnp.abs(4 * (quarter - jnp.floor(quarter)) - 2)
        return (v + 1) * half - 0.5

    return position(row(0) / row(2)), position(row(1) / row(2))


def _pyramid(images: Array, first: int, last: int) -> tuple[Array, list[int], list[int]]:
    """Return levels first…last stacked vertically in one array [b, heights, width, c], their top rows, and their sides."""
    levels = [images]
    for _ in range(last):
        side = levels[-1].shape[1]
        even = np.arange(0, side, 2, dtype=np.int32)
        odd = np.minimum(even + 1, side - 1)  # The mirror image of an edge pixel is the pixel itself.
        rows = jax.lax.optimization_barrier(levels[-1][:, even].astype(jnp.uint16) + levels[-1][:, odd].astype(jnp.uint16))
        levels.append(((rows[:, :, even] + rows[:, :, odd] + 2) // 4).astype(jnp.uint8))
    levels = levels[first:]
    sides = [level.shape[1] for level in levels]
    if len(levels) == 1:
        return levels[0], [0], sides
    padded = [jnp.pad(level, ((0, 0), (0, 0), (0, sides[0] - level.shape[1]), (0, 0))) for level in levels]
    return jnp.concatenate(padded, 1), np.cumsum([0, *sides[:-1]]).tolist(), sides
