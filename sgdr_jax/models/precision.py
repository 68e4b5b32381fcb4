"""How precisely sums, statistics and parameters are kept: float32 beside arithmetic in float32 or less, float64 beside float64."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array


def precision(dtype: Any) -> Any:
    """The dtype of parameters, statistics, sums and the loss, where the network's arithmetic has this one.

    >>> precision(jnp.bfloat16) == precision(jnp.float32) == jnp.float32, precision(jnp.float64) == jnp.float64
    (True, True)
    """
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def precise(x: Array) -> Array:
    """`x` in the precision of its sums."""
    return x.astype(precision(x.dtype))
