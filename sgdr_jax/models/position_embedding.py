"""Positions of the patches of a Vision Transformer: learned embeddings, resized to the grid of the images, and rotary ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from .blocks import empty

type Grid = tuple[int, int]
"""Rows and columns of patches."""


class PositionEmbedding(nnx.Module):
    """Learned embedding of every place of a grid, and of the `prefix` tokens before the patches: [1, prefix + rows · columns, c].

    The parameter has the grid of the images that the weights were trained with. Images of another size get it resized in every pass, so
    that a change of the size changes no parameter. Source: timm's `resample_abs_pos_embed`.
    """

    def __init__(self, features: int, grid: Grid, prefix: int):
        self.embedding = nnx.Param(empty(1, prefix + grid[0] * grid[1], features))
        self.grid, self.prefix = grid, prefix

    def __call__(self, grid: Grid) -> Array:
        """Return the embeddings of the prefix and a grid, float32 [1, prefix + rows · columns, c]."""
        embedding = self.embedding[...]
        if grid == self.grid:
            return embedding
        return jnp.concatenate([embedding[:, : self.prefix], resized(embedding[:, self.prefix :], self.grid, grid)], axis=1)


def resized(embedding: Array, old: Grid, new: Grid) -> Array:
    """Resize embeddings [1, rows · columns, c] from one grid to another, bicubic and antialiased.

    >>> resized(jnp.ones((1, 4, 8)), (2, 2), (3, 5)).shape
    (1, 15, 8)
    """
    channels = embedding.shape[-1]
    return jax.image.resize(embedding.reshape(1, *old, channels), (1, *new, channels), "cubic").reshape(1, -1, channels)


TEMPERATURE = 100
"""Of the rotations: the slowest pair of a head's features turns by almost this factor less than the fastest. DINOv3's."""


def rotations(grid: Grid, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cosine and sine of the angles by which the patches of a grid turn the pairs of a head's features, float32 [patches, features].

    The angle of pair i in the first quarter is 2π · y / TEMPERATURE^(4i / features), in the second 2π · x / …, with x and y of the
    patch's centre from -1 to 1; those of the third and fourth quarter, the partners of the pairs, are the same.
    Source: DINOv3 (Siméoni et al. 2025), in evaluation.
    """
    y, x = ((2 * (np.arange(side, dtype=np.float32) + 0.5) / side - 1)[:, None] for side in grid)
    frequencies = 2 * np.pi / TEMPERATURE ** (4 * np.arange(features // 4) / features)
    rows, columns = np.repeat(y * frequencies, grid[1], 0), np.tile(x * frequencies, (grid[0], 1))
    angles = np.concatenate([rows, columns, rows, columns], 1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotated(x: Array, cos: np.ndarray, sin: np.ndarray) -> Array:
    """Turn pair (i, i + half) of each head's features [b, patches, heads, features] by the angle of its patch, in the dtype of `x`."""
    first, second = jnp.split(x, 2, axis=-1)
    return (x * cos[:, None] + jnp.concatenate([-second, first], axis=-1) * sin[:, None]).astype(x.dtype)
