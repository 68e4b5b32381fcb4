"""Winograd's minimal filtering for the gradient of a 3×3 kernel, with a quarter of the products.

Output gradients g are cut into tiles of 4×4, each of which depends on 6×6 pixels. Over all tiles, dkernel = Gᵀ [Σ (Bᵀ x B) ⊙ (A g Aᵀ)] G
with the matrices of F(4×4, 3×3): 36 products per tile and pair of channels instead of the 9 · 16 of the definition. The price is rounding:
about 1e-5 of the largest gradient in float32. Source: Winograd 1980; Lavin & Gray 2015 for the matrices.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .precision import precise

TILE = 4
B = np.array(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
)
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
A = np.array([[1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1]])


def kernel_gradient(x: Array, g: Array, padding: tuple[tuple[int, int], tuple[int, int]]) -> Array:
    """Compute the gradient of a 3×3 kernel [3, 3, i, o] of stride 1 from images x [b, h, w, i] and output gradients g [b, h', w', o].

    The result is float32 (float64 for float64 images).

    >>> import jax
    >>> kernel_gradient(jax.numpy.ones((1, 6, 6, 1)), jax.numpy.ones((1, 4, 4, 1)), ((0, 0), (0, 0)))[:, :, 0, 0].round(3).tolist()
    [[16.0, 16.0, 16.0], [16.0, 16.0, 16.0], [16.0, 16.0, 16.0]]
    """
    x, g = precise(x), precise(g)
    high, wide = (-(-n // TILE) for n in g.shape[1:3])
    (top, bottom), (left, right) = padding
    below, beyond = high * TILE - g.shape[1], wide * TILE - g.shape[2]
    x = jnp.pad(x, ((0, 0), (top, bottom + below), (left, right + beyond), (0, 0)))
    g = jnp.pad(g, ((0, 0), (0, below), (0, beyond), (0, 0)))
    pixels, slopes = lax.optimization_barrier((_tiles(x, B, high, wide), _tiles(g, A, high, wide)))
    sums = lax.dot_general(pixels, slopes, (((1,), (1,)), ((0,), (0,)))).reshape(6, 6, x.shape[-1], g.shape[-1])
    ends = G.astype(sums.dtype)
    return jnp.einsum("pi,qj,pqco->ijco", ends, ends, sums)


def _tiles(x: Array, matrix: np.ndarray, high: int, wide: int) -> Array:
    """Compute matrix · tile · matrixᵀ for the tiles of every image, ordered by position in the tile: [36, b · high · wide, c]."""
    size = matrix.shape[1]
    rows = jnp.stack(_combine(matrix, [x[:, p : p + (high - 1) * TILE + 1 : TILE] for p in range(size)]))
    # Without the barrier XLA recomputes the rows for every column, in a program that takes three times as long to compile.
    rows = lax.optimization_barrier(rows)
    cells = _combine(matrix, [rows[:, :, :, q : q + (wide - 1) * TILE + 1 : TILE] for q in range(size)])
    return jnp.stack(cells, 1).reshape(len(matrix) ** 2, -1, x.shape[-1])


def _combine(matrix: np.ndarray, parts: list[Array]) -> list[Array]:
    """Compute linear combinations with small integers; unlike a matrix product this skips factors of 0."""
    return [sum((int(a) * part for a, part in zip(row, parts, strict=True) if a), start=jnp.zeros((), parts[0].dtype)) for row in matrix]
