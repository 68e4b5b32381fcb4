"""Norm and finiteness of trees of many arrays."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# jax types its functions of trees only in part.

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

SMALL = 2048
"""Numbers of an array up to which it is joined with others. Most arrays of a network are scales, biases and statistics of a few hundred
numbers, and a reduction of each by itself takes longer to start than to run: for EfficientNet-Lite0's gradients on two CPU cores 0.69
instead of 1.2 ms, and no better with larger arrays among them."""


def global_norm(tree: Any) -> Array:
    """Return the Euclidean norm of all arrays of a tree together, a scalar.

    >>> global_norm({"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}).tolist()
    5.0
    """
    squares = (jnp.sum(jnp.square(array)) for array in _joined(jax.tree.leaves(tree)))
    return jnp.sqrt(reduce(jnp.add, squares))


def all_finite(tree: Any) -> Array:
    """Return whether all numbers of a tree are finite, a boolean scalar; integers are.

    >>> all_finite({"a": jnp.zeros(3), "b": jnp.array([1.0, jnp.nan])}).tolist()
    False
    """
    numbers = [leaf for leaf in map(jnp.asarray, jax.tree.leaves(tree)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return reduce(jnp.logical_and, (jnp.all(jnp.isfinite(array)) for array in _joined(numbers)), jnp.bool(True))


def _joined(arrays: Sequence[Array]) -> list[Array]:
    """Return the arrays, small ones of a dtype as one."""
    small: dict[Any, list[Array]] = {}
    for array in arrays:
        if array.size <= SMALL:
            small.setdefault(array.dtype, []).append(jnp.ravel(array))
    return [*(array for array in arrays if array.size > SMALL), *map(jnp.concatenate, small.values())]
