"""Exponential moving average of the trained weights, carried beside the optimizer's slots."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..core.state import Tree


class Averaged(NamedTuple):
    """Optimizer slots with a moving average of the weights.

    Attributes:
        slots: the optimizer's own.
        params: average of the trained groups.
        count: int32 scalar, updates so far.
    """

    slots: optax.OptState
    params: Tree
    count: jax.Array


def averaged(opt_state: Any) -> Tree:
    """The moving average of the trained groups' weights, where `Optimizer.ema` asks for one; else an empty tree."""
    return opt_state.params if isinstance(opt_state, Averaged) else {}


def average(decay: float, before: Averaged, slots: optax.OptState, params: Tree) -> Averaged:
    """average ← d·average + (1 - d)·weights with d = min(decay, (1 + t) / (10 + t)), t updates before this one, so that the first weights
    are soon forgotten. Source: TensorFlow's ExponentialMovingAverage."""
    t = before.count.astype(jnp.float32)
    d = jnp.minimum(jnp.float32(decay), (1 + t) / (10 + t))
    mean = jax.tree.map(lambda a, p: a + (1 - d) * (p - a), before.params, params)
    return Averaged(slots, mean, before.count + 1)
