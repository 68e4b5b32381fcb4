"""How precisely sums, statistics and parameters are kept: float32 beside arithmetic in float32 or less, float64 beside float64."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def precision(dtype: Any) -> Any:
    """The dtype of parameters, statistics, sums and the loss, where the network's arithmetic has this one.

    >>> precision(jnp.bfloat16) == precision(jnp.float32) == jnp.float32, precision(jnp.float64) == jnp.float64
    (True, True)
    """
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def full_products() -> AbstractContextManager[None]:
    """While this block traces, products of float32 matrices are those of float32, their gradients too.

    By default a GPU rounds the factors to TF32 (10 bits of mantissa instead of 23) and a TPU to bfloat16; factors that are bfloat16
    already lose nothing either way. A float32 product of 512 × 512 on an H200 is off by 3e-4 of the largest entry, and inside this
    block by 3e-7.
    """
    return jax.default_matmul_precision("highest")


def precise(x: Array) -> Array:
    """`x` in the precision of its sums."""
    return x.astype(precision(x.dtype))
