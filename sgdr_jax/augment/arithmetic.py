"""Array types and arithmetic shared by the augmentations, for NumPy and JAX arrays alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    import jax

type Array = np.ndarray | jax.Array
type Scalar = float | Array
"""A number, or an array without axes (a traced strength)."""
type Matrix = Float[Array, "3 3"]
"""Map from output to input coordinates (x, y, 1)."""
type ColourMap = tuple[Float[Array, "c c"], Float[Array, " c"]]
"""Affine map of the channels: matrix and shift."""
type Curve = Float[Array, "256 c"]
"""Value 0…1 of each 8-bit level."""
type Counts = Int[Array, "256 c"]
"""Number of pixels at each 8-bit level."""
type Image = Float[Array, "h w c"]
"""Values in 0…1."""

GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey. Source: ITU-R BT.601, as in Pillow."""


def between(u: Array, low: float, high: float) -> Array:
    """Return the number at share u of the way from low to high."""
    return low + u * (high - low)


def signed(u: Array, s: Scalar, most: float, least: float = 0.0) -> Array:
    """Return a magnitude from least…most with a random sign, times the strength s; least = 0 makes it uniform on ±most.

    Example:
        >>> [float(signed(np.float64(u), 0.5, 10.0, 6.0)) for u in (0.0, 0.25, 0.75)]
        [-5.0, -4.0, 4.0]
    """
    xp = u.__array_namespace__()
    v = 2 * u - 1
    return xp.where(v < 0, -1.0, 1.0).astype(u.dtype) * (least + xp.abs(v) * (most - least)) * s


def linear(u: Array, rows: tuple[tuple[Scalar, Scalar, Scalar], tuple[Scalar, Scalar, Scalar]]) -> Matrix:
    """Return the 3×3 matrix with these first two rows and the third row (0, 0, 1), in the namespace and precision of `u`."""
    xp = u.__array_namespace__()
    zero = xp.zeros((), dtype=u.dtype)
    return xp.reshape(xp.stack([zero + entry for row in (*rows, (0, 0, 1)) for entry in row]), (3, 3))


def pixel_centres(image: Image) -> tuple[Float[Array, " h"], Float[Array, " w"]]:
    """Return the places of the rows and of the columns in 0…1."""
    xp = image.__array_namespace__()
    rows, columns = ((xp.arange(n, dtype=image.dtype) + 0.5) / n for n in image.shape[:2])
    return rows, columns


def channel_means(image: Image) -> Float[Array, " c"]:
    """Return the mean of each channel.

    Sums runs of adjacent pixels, then the runs: on CPU four times faster than a mean over two axes before a short one.
    """
    h, w, c = image.shape
    run = math.gcd(h * w, 64)
    return image.reshape(-1, run * c).sum(0).reshape(run, c).sum(0) / (h * w)
