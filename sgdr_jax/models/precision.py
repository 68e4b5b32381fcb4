"""Precision of sums, statistics and parameters: float32 for arithmetic in float32 or less, float64 for float64."""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def precision(dtype: DTypeLike) -> DTypeLike:
    """Return the dtype of parameters, statistics, sums and the loss for a dtype of the network's arithmetic.

    >>> precision(jnp.bfloat16) == precision(jnp.float32) == jnp.float32, precision(jnp.float64) == jnp.float64
    (True, True)
    """
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def full_products() -> AbstractContextManager[None]:
    """Compute float32 matrix products that are traced in this block, and their gradients, in full float32.

    By default a GPU rounds the factors to TF32 (10 bits of mantissa instead of 23) and a TPU to bfloat16; bfloat16 factors lose nothing
    either way. The error of a 512 × 512 float32 product on an H200 is 3e-4 of the largest entry, and inside this block 3e-7.
    """
    return jax.default_matmul_precision("highest")


def precise(x: Array) -> Array:
    """Cast `x` to the precision of its sums."""
    return x.astype(precision(x.dtype))
