"""Carries augmentations out: one resampling for all geometry, one affine map for all colour, then the few that act on pixels.

Geometry composes to one 3×3 matrix per example, so that an image is interpolated once, whatever the number of augmentations; the resize
from the stored canvas is part of it. Images continue beyond their borders as their mirror image (the edge pixel doubled), as in fastai 0.7.

Everything here is a pure function, to be called under `jax.jit` with `augmentations` and `size` static. All arrays are split over examples
only, so a batch that is spread over devices stays where it is.

On CPU gathers that XLA fuses with their interpolation beat matrix products and packed words of neighbours by far. A TPU is slow at
gathers; there `resize` is better done as two matrix products, and small rotations as shears.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8, UInt32

from ..config import require
from ..types import Augmentation

_METHODS = ("matrix", "colour", "pixels")


def augment(
    images: UInt8[Array, "b S S c"], seeds: UInt32[Array, " b"], key: Key[Array, ""], augmentations: Sequence[Augmentation], size: int
) -> Float[Array, "b {size} {size} c"]:
    """Augmented images in 0…1, float32; example i depends on `key`, `seeds[i]` and its own pixels alone, not on the rest of the batch.

    All uniform numbers of an example are one vector drawn from `fold_in(key, seeds[i])`: for each augmentation in order one that decides
    whether it applies, then its `draws`. Appending an augmentation therefore leaves the draws of the earlier ones as they were.
    Geometry comes first (composed in order), then colour (in order, clipped to 0…1 once at the end), then pixels (in order).
    Without geometry the pixels are those of `resize`; symmetries of the square alone move them without interpolating.

    Raises InputError for an augmentation without a probability `p` or without exactly one of the methods matrix, colour and pixels.
    """
    chosen: dict[str, list[tuple[int, Any]]] = {m: [(i, a) for i, a in enumerate(augmentations) if _method(a) == m] for m in _METHODS}
    applies, draws = _draw(seeds, key, augmentations)

    geometry = chosen["matrix"]
    if not geometry:
        out = resize(images, size)
    else:
        matrices = _compose(geometry, applies, draws)
        if all(getattr(a, "symmetry", False) for _, a in geometry):
            out = symmetry(resize(images, size), matrices)
        else:
            out = resample(images, matrices, size, _scales([a for _, a in geometry]))
    # Held fast, lest each later use of the images computes them anew.
    out = jax.lax.optimization_barrier(out)
    if chosen["colour"]:
        out = _colours(out, chosen["colour"], applies, draws)
    for i, a in chosen["pixels"]:
        changed = jax.vmap(a.pixels)(draws[i], out)
        out = jnp.where(applies[i][:, None, None, None], changed, out)
    return out


def _method(augmentation: Augmentation) -> str:
    found = [method for method in _METHODS if hasattr(augmentation, method)]
    require(len(found) == 1, type(augmentation).__name__, found, f"an augmentation has exactly one of the methods {', '.join(_METHODS)}")
    require(hasattr(augmentation, "p"), type(augmentation).__name__, augmentation, "an augmentation has a field p, its probability")
    return found[0]


def _draw(seeds: Array, key: Array, augmentations: Sequence[Any]) -> tuple[list[Array], list[Array]]:
    """For each augmentation whether it applies, bool [b], and its uniform numbers, float32 [b, draws]."""
    ends = np.cumsum([1 + a.draws for a in augmentations], dtype=int).tolist()
    if not ends:
        return [], []
    # The bits of element i do not depend on the length of the vector (jax_threefry_partitionable, the default).
    u = jax.vmap(lambda seed: jax.random.uniform(jax.random.fold_in(key, seed), (ends[-1],), jnp.float32))(seeds)
    parts = [u[:, start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return [part[:, 0] < a.p for part, a in zip(parts, augmentations, strict=True)], [part[:, 1:] for part in parts]


def _compose(geometry: list[tuple[int, Any]], applies: list[Array], draws: list[Array]) -> Float[Array, "b 3 3"]:
    """The map from output to input coordinates of all geometry: the first augmentation's matrix is the one nearest to the input."""
    total = None
    for i, a in geometry:
        matrix = jnp.where(applies[i][:, None, None], jax.vmap(a.matrix)(draws[i]), jnp.eye(3, dtype=jnp.float32))
        total = matrix if total is None else jnp.matmul(total, matrix, precision="highest")
    assert total is not None
    return total


def _colours(images: Array, colours: list[tuple[int, Any]], applies: list[Array], draws: list[Array]) -> Array:
    channels = images.shape[-1]
    eye = jnp.eye(channels, dtype=jnp.float32)
    means = images.mean((1, 2))
    matrix, shift = jnp.broadcast_to(eye, (len(images), channels, channels)), jnp.zeros_like(means)
    for i, a in colours:
        # An affine map of the channels maps their means likewise, so later augmentations see the mean that they would have measured.
        m, s = jax.vmap(a.colour)(draws[i], _affine(matrix, shift, means))
        m, s = jnp.where(applies[i][:, None, None], m, eye), jnp.where(applies[i][:, None], s, 0)
        matrix, shift = jnp.matmul(m, matrix, precision="highest"), _affine(m, s, shift)
    per_pixel = [images[..., k, None] * matrix[:, None, None, :, k] for k in range(channels)]
    return jnp.clip(sum(per_pixel, shift[:, None, None, :]), 0, 1)


def _affine(matrix: Array, shift: Array, values: Array) -> Array:
    """matrix [b, c, c] · values [b, c] + shift [b, c], without a matrix unit's rounding."""
    return (matrix * values[:, None, :]).sum(-1) + shift


def symmetry(images: Float[Array, "b s s c"], matrices: Float[Array, "b 3 3"]) -> Float[Array, "b s s c"]:
    """Each image under a symmetry of the square, given as its map of coordinates (see `augment.Dihedral`); moves pixels only."""
    # Column k of the matrix holds one sign: that of output axis k.
    signs = matrices[:, :2, :2].sum(1)
    steps: list[tuple[Array, Callable[[Array], Array]]] = [
        (matrices[:, 0, 1] != 0, lambda x: x.swapaxes(1, 2)),
        (signs[:, 0] < 0, lambda x: x[:, :, ::-1]),
        (signs[:, 1] < 0, lambda x: x[:, ::-1]),
    ]
    images = jax.lax.optimization_barrier(images)
    for flag, changed in steps:
        images = jnp.where(flag[:, None, None, None], changed(images), images)
    return images


# ---- the plain view ----


def resize(images: UInt8[Array, "b S S c"], size: int) -> Float[Array, "b {size} {size} c"]:
    """The plain view: resized to `size` with a triangle filter, widened when shrinking; values in 0…1, float32.

    Equals `jax.image.resize(images / 255, …, method="linear", antialias=True)`; a canvas of `size` pixels is not filtered.
    """
    canvas = images.shape[1]
    if canvas == size:
        return images.astype(jnp.float32) / 255
    taps, weights = _filter(canvas, size)
    # Each pass touches the few taps per pixel that are not zero; on CPU several times faster than matrix products. The barrier keeps the
    # first from being computed anew for each tap of the second.
    rows = sum(w[:, None, None] * images[:, t].astype(jnp.float32) for t, w in zip(taps, weights, strict=True))
    rows = jax.lax.optimization_barrier(rows)
    both = sum(w[:, None] * rows[:, :, t] for t, w in zip(taps, weights, strict=True))
    return jnp.clip(both * (1 / 255), 0, 1)


def _filter(canvas: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights [taps, size] of the triangle filter at half-pixel centres; the weights of an output pixel sum to 1."""
    ratio = canvas / size
    centres = (np.arange(size) + 0.5) * ratio - 0.5
    dense = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(canvas)) / max(ratio, 1))
    dense = dense / dense.sum(1, keepdims=True)
    count = int((dense > 1e-9).sum(1).max())
    taps = np.minimum((dense > 1e-9).argmax(1), canvas - count) + np.arange(count)[:, None]
    return taps.astype(np.int32), dense[np.arange(size), taps].astype(np.float32)


# ---- the one resampling ----


def resample(
    images: UInt8[Array, "b S S c"], matrices: Float[Array, "b 3 3"], size: int, scales: tuple[float, float] = (1.0, 1.0)
) -> Float[Array, "b {size} {size} c"]:
    """Images as seen through a map from output to input coordinates (-1…1 from edge to edge): bilinear, mirrored borders, in 0…1, float32.

    Where output pixels are larger than canvas pixels, an example is read from the level of a pyramid (each level the 2×2 means of the one
    before, rounded to 8 bits) whose pixels are nearest to them in size, so that shrinking does not alias. `scales` are the least and
    largest enlargement of an output pixel by the matrices, beside the resize; they decide which levels are made.
    """
    canvas = images.shape[1]
    first, last = (min(max(round(math.log2(canvas / size * scale)), 0), int(math.log2(canvas))) for scale in scales)
    pyramid, tops, sides = _pyramid(images, first, last)
    determinants = jnp.abs(jnp.linalg.det(matrices) / matrices[:, 2, 2] ** 3)
    level = jnp.round(0.5 * jnp.log2(jnp.maximum(determinants, 1e-12)) + math.log2(canvas / size))
    level = jnp.clip(jnp.nan_to_num(level), first, last).astype(jnp.int32) - first
    top, side = jnp.asarray(tops)[level], jnp.asarray(sides)[level]
    half = jnp.asarray([canvas / 2 / 2**k for k in range(first, last + 1)], jnp.float32)[level]
    # With the coordinates at hand the gathers fuse with the interpolation; without the barrier they are computed anew for every tap.
    x, y = jax.lax.optimization_barrier(jax.vmap(lambda m, h: _positions(m, h, size))(matrices, half))

    def one(image: Array, x: Array, y: Array, top: Array, side: Array) -> Array:
        left, above = jnp.floor(x), jnp.floor(y)
        fx, fy = (x - left)[..., None], (y - above)[..., None]
        # A tap beyond the edge pixel is its mirror image, the edge pixel. Clipping also keeps NaN from reading elsewhere.
        columns = [jnp.clip(left.astype(jnp.int32) + k, 0, side - 1) for k in (0, 1)]
        rows = [jnp.clip(above.astype(jnp.int32) + k, 0, side - 1) + top for k in (0, 1)]
        (a, b), (c, d) = ([image.at[r, k].get(mode="promise_in_bounds").astype(jnp.float32) for k in columns] for r in rows)
        upper, lower = a + fx * (b - a), c + fx * (d - c)
        return jnp.clip((upper + fy * (lower - upper)) * (1 / 255), 0, 1)

    return jax.vmap(one)(pyramid, x, y, top, side)


def _positions(matrix: Array, half: Array, size: int) -> tuple[Array, Array]:
    """Columns and rows [size, size], in pixels of a level that is 2·`half` of them wide, that the output pixels sample."""
    centres = (2 * jnp.arange(size, dtype=jnp.float32) + 1) / size - 1

    def row(k: int) -> Array:
        return matrix[k, 0] * centres[None, :] + matrix[k, 1] * centres[:, None] + matrix[k, 2]

    def position(v: Array) -> Array:
        # A triangle wave folds coordinates of any size back into the image: -1…1 up, 1…3 down.
        quarter = (v + 1) / 4
        return (2 - jnp.abs(4 * (quarter - jnp.floor(quarter)) - 2)) * half - 0.5

    return position(row(0) / row(2)), position(row(1) / row(2))


def _pyramid(images: Array, first: int, last: int) -> tuple[Array, list[int], list[int]]:
    """Levels first…last one below the other in one array [b, heights, width, c], the top rows of the levels and their sides."""
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


def _scales(geometry: Sequence[Any]) -> tuple[float, float]:
    """Least and largest enlargement of an output pixel over the extreme draws of all augmentations together."""
    low, high = 1.0, 1.0
    for a in geometry:
        corners = itertools.product((0.0, 1 - 2**-24), repeat=a.draws)
        scales = [math.sqrt(abs(np.linalg.det(a.matrix(np.asarray(u, np.float64))))) for u in corners]
        scales += [1.0] if a.p < 1 else []
        low, high = low * min(scales), high * max(scales)
    # Too small by rounding must not become a level.
    return max(low, 1e-6), max(high, 1e-6)
